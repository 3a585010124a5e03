using System.CommandLine;
using System.Net;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Server;

namespace Testbed.Cli.Verbs;

/// <summary>testbed page-server</summary>
internal static class PageServerVerb
{
    public static Command Create()
    {
        var criu = new CriuCommandLine();
        var address = new Option<string>("--address") { Description = "where to listen", DefaultValueFactory = _ => "0.0.0.0" };
        var port = new Option<int>("--port") { Description = "the port; 0: any free one, which the log names (-v3)" };
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
        { address, port, lazy, sessions };
        criu.AddTo(command);
        command.SetAction(parsed =>
        {
            CriuSettings settings = criu.Read(parsed);
            return CriuServer.Run(settings, Serve(
                settings.Images, parsed.GetRequiredValue(address), parsed.GetValue(port), parsed.GetValue(lazy), parsed.GetValue(sessions)));
        });
        return command;
    }

    private static Func<CriuServer, int> Serve(string images, string address, int port, bool lazy, int? sessions) => host =>
    {
        if (!IPAddress.TryParse(address, out IPAddress? listen))
            throw new BadInputException($"--address {address}: expected an IP address");
        if (port is < 0 or > 65535)
            throw new BadInputException($"--port {port}: expected 0 to 65535");
        if (sessions < 1)
            throw new BadInputException($"--sessions {sessions}: expected at least 1");
        using var interrupt = new Interrupt();
        using PagesDirectory? source = lazy ? PagesDirectory.Open(images) : null;
        using var ended = new SemaphoreSlim(0);
        bool broken = false;
        using var server = new PageServer(new PageServerOptions
        {
            Address = listen,
            Port = port,
            Source = source,
            ReceiveDirectory = lazy ? null : images,
            Log = line => host.Log(LogLevel.Error, line),
            OnSessionEnd = well =>
            {
                host.Log(LogLevel.Info, well ? "session over" : "session broke off");
                broken |= !well;
                _ = ended.Release();
            },
        });
        host.Log(LogLevel.Info, $"{(lazy ? "serving" : "receiving into")} {images} on {server.EndPoint}");
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
