using System.CommandLine;
using System.Net;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Server;

namespace Testbed.Cli.Verbs;

/// <summary>testbed page-server</summary>
internal static class PageServerVerb
{
    public static Command Create()
    {
        var criu = new CriuCommandLine();
        var lazy = new Option<bool>("--lazy-pages") { Description = "serve the pages of the images directory, instead of receiving into it" };
        var sessions = new Option<int?>("--sessions")
        {
            Description = "end after so many sessions; default: 1 when receiving, as CRIU does; when serving, go on until SIGTERM",
        };
        var command = new Command("page-server", """
            Take CRIU's place as page server: receive memory from criu dump --page-server into an images directory, or with
            --lazy-pages serve it from there to any number of lazy-pages daemons. Exit code 1 when a dump broke off; nothing
            is kept of it then.

            Examples:
              testbed page-server -D images --port 9876             and: criu dump --page-server --address HOST --port 9876 ...
              testbed page-server -D images --port 9876 --lazy-pages  and: criu lazy-pages --page-server --address HOST --port 9876 ...
            """)
        { lazy, sessions };
        criu.AddTo(command);
        command.SetAction(parsed =>
        {
            CriuSettings settings = criu.Read(parsed);
            return CriuServer.Run(settings, Serve(settings, parsed.GetValue(lazy), parsed.GetValue(sessions)));
        });
        return command;
    }

    private static Func<CriuServer, int> Serve(CriuSettings settings, bool lazy, int? sessions) => host =>
    {
        IPEndPoint listen = settings.ToListen();
        if (sessions < 1)
            throw new BadInputException($"--sessions {sessions}: expected at least 1");
        using var interrupt = new Interrupt();
        using TlsCredentials? tls = settings.LoadTls();
        using PagesDirectory? source = lazy ? PagesDirectory.Open(settings.Images) : null;
        using var ended = new SemaphoreSlim(0);
        bool broken = false;
        using var server = new PageServer(new PageServerOptions
        {
            Address = listen.Address,
            Port = listen.Port,
            Tls = tls,
            Source = source,
            ReceiveDirectory = lazy ? null : settings.Images,
            Log = line => host.Log(LogLevel.Error, line),
            OnSessionEnd = well =>
            {
                host.Log(LogLevel.Info, well ? "session over" : "session broke off");
                broken |= !well;
                _ = ended.Release();
            },
        });
        host.Log(LogLevel.Info, $"{(lazy ? "serving" : "receiving into")} {settings.Images} on {server.EndPoint}");
        host.Ready();
        int left = sessions ?? (lazy ? int.MaxValue : 1);
        try
        {
            for (; left > 0; left--)
                ended.Wait(interrupt.Token);
        }
        catch (OperationCanceledException) when (lazy)
        {
            // How a server that serves on and on is ended.
        }
        host.Log(LogLevel.Info, $"{server.Requests} requests answered, {server.PagesSent} pages sent");
        return broken ? 1 : 0;
    };
}
