using System.CommandLine;
using System.Net;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Server;
using Testbed.Uffd;

namespace Testbed.Cli.Verbs;

/// <summary>testbed page-server</summary>
internal static class PageServerVerb
{
    public static Command Create()
    {
        var criu = new CriuCommandLine();
        var lazy = new Option<bool>("--lazy-pages") { Description = "serve the pages of the images directory, instead of receiving into it" };
        var pid = new Option<int?>("--pid")
        {
            Description = "with --lazy-pages: freeze this process and its children, and serve their memory straight from there",
        };
        var sessions = new Option<int>("--sessions")
        {
            Description = "end after this many sessions, each of them up to a client's CLOSE; 1, as CRIU does, unless said; 0: until SIGTERM",
            DefaultValueFactory = _ => 1,
        };
        var command = new Command("page-server", """
            Take CRIU's place as page server: receive memory from criu dump --page-server into an images directory, or with --lazy-pages serve it
            from there to a lazy-pages daemon. Ends when the client says that all is in, as CRIU's does; --sessions 0 serves any number of
            restores. A client that is gone without a word may come back (the recovery process of our daemon does): the server waits for it.
            With --pid the pages come from a process that stands still meanwhile: those that the directory's pagemaps call lazy (as criu dump
            --lazy-pages writes them), or, where it has none, all private memory, for which pagemaps are written. The process runs on as before
            when the session is over, when its client is gone, and when this program ends, however it does.
            Exit code 1 when a dump broke off, of which nothing is kept then, when a client asked for what is not here, or left a frozen process
            without CLOSE; 2 when the command line, a configuration file or the images cannot be used; CRIU ends with 1 then, too.

            Examples:
              testbed page-server -D images --port 9876             and: criu dump --page-server --address HOST --port 9876 ...
              testbed page-server -D images --port 9876 --lazy-pages  and: criu lazy-pages --page-server --address HOST --port 9876 ...
              testbed page-server -D images --port 9876 --lazy-pages --sessions 0     serve one restore after the other, or several at once
              testbed page-server -D images --port 9876 --lazy-pages --pid 4711
            """)
        { lazy, pid, sessions };
        criu.AddTo(command);
        command.SetAction(parsed =>
        {
            CriuSettings settings = criu.Read(parsed);
            var what = new Serving(parsed.GetValue(lazy), parsed.GetValue(pid), parsed.GetValue(sessions));
            return CriuServer.Run(settings, host => Serve(host, settings, what));
        });
        return command;
    }

    /// <summary>What this verb alone knows of.</summary>
    private sealed record Serving(bool Lazy, int? Pid, int Sessions);

    private static int Serve(CriuServer host, CriuSettings settings, Serving what)
    {
        IPEndPoint? listen = settings.SocketFd is null ? settings.ToListen() : null;
        if (what.Sessions < 0)
            throw new BadInputException($"--sessions {what.Sessions}: expected at least 1, or 0 for no end");
        if (what.Pid is not null && !what.Lazy)
            throw new BadInputException("--pid: expected --lazy-pages, too");
        using var interrupt = new Interrupt();
        using TlsCredentials? tls = settings.LoadTls();
        // Before anything is frozen.
        tls?.RequireAuthority();
        using FrozenTree? frozen = what.Pid is { } pid ? Freeze(host, pid, settings.Images) : null;
        using PagesDirectory? images = what.Lazy && frozen is null ? PagesDirectory.Open(settings.Images) : null;
        using var sessions = new ServedSessions(
            what.Sessions, isReceiving: !what.Lazy, isFrozen: frozen is not null, line => host.Log(LogLevel.Info, line));
        using var server = new PageServer(new PageServerOptions
        {
            Address = listen?.Address ?? IPAddress.None,
            Port = listen?.Port ?? 0,
            Inherited = settings.TakeSocket(),
            Tls = tls,
            Source = frozen is not null ? frozen : images,
            ReceiveDirectory = what.Lazy ? null : settings.Images,
            Log = line => host.Log(LogLevel.Error, line),
            OnConnectionEnd = sessions.Ended,
            OnAbandoned = sessions.Abandoned,
        });
        string where = listen is null ? $"descriptor {settings.SocketFd}" : $"{server.EndPoint}";
        host.Log(LogLevel.Info, $"{(what.Lazy ? "serving" : "receiving into")} {settings.Images} on {where}");
        if (listen is null && (settings.Address is not null || settings.Port != 0))
            host.Log(LogLevel.Warning, "--address and --port are of no use beside --ps-socket");
        host.Ready();
        try
        {
            sessions.Await(server, interrupt.Token);
        }
        catch (OperationCanceledException) when (what.Lazy || what.Sessions == 0)
        {
            // How a server that serves on and on is ended.
        }
        host.Log(LogLevel.Info, $"{server.Requests} requests answered, {server.PagesSent} pages sent");
        return sessions.Failed ? 1 : 0;
    }

    private static FrozenTree Freeze(CriuServer host, int pid, string images)
    {
        FrozenTree frozen = FrozenTree.Freeze(pid);
        try
        {
            host.Log(LogLevel.Info, $"frozen: {string.Join(", ", frozen.Processes)}");
            if (Directory.EnumerateFiles(images, "pagemap-*.img").Any())
            {
                using PagesDirectory pagemaps = PagesDirectory.Open(images);
                frozen.Serve(pagemaps);
            }
            else
                frozen.WriteImages(images);
            return frozen;
        }
        catch
        {
            frozen.Dispose();
            throw;
        }
    }
}
