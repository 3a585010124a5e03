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
        var pid = new Option<int?>("--pid", "--tree", "-t")
        {
            Description = "with --lazy-pages: freeze this process and its children, and serve their memory straight from there",
        };
        var sessions = new Option<int?>("--sessions")
        {
            Description = "end after so many sessions; default: 1 when receiving or with --pid, as CRIU does; else go on until SIGTERM",
        };
        var dedup = new Option<bool>("--auto-dedup") { Description = "accepted; what parent images hold twice stays there" };
        var command = new Command("page-server", """
            Take CRIU's place as page server: receive memory from criu dump --page-server into an images directory, or with
            --lazy-pages serve it from there to any number of lazy-pages daemons. With --pid the pages come from a process that
            stands still meanwhile: those that the directory's pagemaps call lazy (as criu dump --lazy-pages writes them), or,
            where it has none, all private memory, for which pagemaps are written. The process runs on as before when the session is over, when
            its client is gone, and when this program ends, however it does.
            Exit code 1 when a dump broke off, of which nothing is kept then, or when a client left a frozen process without CLOSE.

            Examples:
              testbed page-server -D images --port 9876             and: criu dump --page-server --address HOST --port 9876 ...
              testbed page-server -D images --port 9876 --lazy-pages  and: criu lazy-pages --page-server --address HOST --port 9876 ...
              testbed page-server -D images --port 9876 --lazy-pages --pid 4711
            """)
        { lazy, pid, sessions, dedup };
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
    private sealed record Serving(bool Lazy, int? Pid, int? Sessions);

    private static int Serve(CriuServer host, CriuSettings settings, Serving what)
    {
        IPEndPoint listen = settings.ToListen();
        if (what.Sessions < 1)
            throw new BadInputException($"--sessions {what.Sessions}: expected at least 1");
        if (what.Pid is not null && !what.Lazy)
            throw new BadInputException("--pid: expected --lazy-pages, too");
        using var interrupt = new Interrupt();
        using TlsCredentials? tls = settings.LoadTls();
        // Before anything is frozen.
        tls?.RequireAuthority();
        using FrozenTree? frozen = what.Pid is { } pid ? Freeze(host, pid, settings.Images) : null;
        using PagesDirectory? images = what.Lazy && frozen is null ? PagesDirectory.Open(settings.Images) : null;
        using var ended = new SemaphoreSlim(0);
        bool broken = false;
        void End(bool well, string line)
        {
            host.Log(LogLevel.Info, line);
            broken |= !well;
            _ = ended.Release();
        }
        using var server = new PageServer(new PageServerOptions
        {
            Address = listen.Address,
            Port = listen.Port,
            Tls = tls,
            Source = frozen is not null ? frozen : images,
            ReceiveDirectory = what.Lazy ? null : settings.Images,
            Log = line => host.Log(LogLevel.Error, line),
            OnSessionEnd = well => End(well, well ? "session over" : "session broke off"),
            OnAbandoned = frozen is null ? () => { } : () => End(false, "the client is gone and did not say that all is in"),
        });
        host.Log(LogLevel.Info, $"{(what.Lazy ? "serving" : "receiving into")} {settings.Images} on {server.EndPoint}");
        host.Ready();
        int left = what.Sessions ?? (images is not null ? int.MaxValue : 1);
        try
        {
            for (; left > 0 && !(broken && frozen is not null); left--)
                ended.Wait(interrupt.Token);
        }
        catch (OperationCanceledException) when (what.Lazy)
        {
            // How a server that serves on and on is ended.
        }
        // CLOSE comes over one lane of perhaps several.
        for (long end = Environment.TickCount64 + 5000; frozen is not null && !broken && server.Connections > 0 && Environment.TickCount64 < end;)
            Thread.Sleep(10);
        host.Log(LogLevel.Info, $"{server.Requests} requests answered, {server.PagesSent} pages sent");
        return broken ? 1 : 0;
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
