using System.CommandLine;
using Testbed.Core;
using Testbed.Live;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Xfer;
using Testbed.Policies;
using Testbed.Traces;
using Testbed.Uffd;

namespace Testbed.Cli.Verbs;

/// <summary>testbed lazy-pages</summary>
internal static class LazyPagesVerb
{
    private const string Guarding = "--guarding";

    public static Command Create()
    {
        var criu = new CriuCommandLine();
        var remote = new Option<bool>("--page-server") { Description = "fetch the pages from a page server; default: they are in the images" };
        var policy = new Option<string>("--policy")
        {
            Description = "what comes when: NAME or NAME:OPTION=VALUE,...; testbed policies lists them",
            // A program comes to life with some hundred faults, one after the other, that lie close together.
            DefaultValueFactory = _ => "next-n:n=16,aligned=true,faults=64 + hot-first",
        };
        var policyFiles = PolicyFileOption.Create();
        var trace = new Option<string?>("--trace") { Description = "write a fault trace of the restore to this file" };
        var recording = new Option<string?>("--recording") { Description = "an earlier trace, for policies that go by one" };
        var guarding = new Option<int?>(Guarding) { Hidden = true };
        var command = new Command("lazy-pages", """
            Take the place of criu lazy-pages: serve the page faults of the processes that criu restore --lazy-pages restores, and move
            the rest of their memory in the background. Ends when all is in; exit code 0 then, 1 when the restore failed. Asked to
            end before (SIGTERM, Ctrl-C), it first brings in what is missing; killed, a guard process beside it does.
            Exit code 2 when the command line, a configuration file or the images cannot be used; CRIU ends with 1 then, too.

            Examples:
              testbed lazy-pages -D images -o lazy.log -v4                                     and: criu restore --lazy-pages -D images ...
              testbed lazy-pages -D images --page-server --address 10.0.0.1 --port 9876 -d   and at the source: criu dump --lazy-pages ...
            """)
        { remote, policy, policyFiles, trace, recording, guarding };
        criu.AddTo(command);
        command.SetAction(parsed =>
        {
            CriuSettings settings = criu.Read(parsed);
            PolicyFileOption.Load(parsed.GetRequiredValue(policyFiles));
            string? recorded = parsed.GetValue(recording);
            // Certificates are loaded once, and for the life of the process: lanes come and go.
            TlsCredentials? tls = parsed.GetValue(remote) ? settings.LoadTls() : null;
            LazyPagesOptions OptionsFor(CriuServer host) => new()
            {
                ImagesPath = settings.Images,
                WorkPath = settings.Work,
                Connect = parsed.GetValue(remote) ? settings.ToLanes(tls, inherits: parsed.GetValue(guarding) is null) : null,
                Policy = PolicyCatalog.Parse(parsed.GetRequiredValue(policy)),
                Recording = recorded is null ? [] : Trace.Load(recorded).FirstTouches().Recording,
                TracePath = parsed.GetValue(trace),
                ToolCommandLine = "testbed " + string.Join(' ', Environment.GetCommandLineArgs().Skip(1)),
                Guard = GuardLine(),
                Log = (level, line) => host.Log((LogLevel)level, line),
            };
            return parsed.GetValue(guarding) is { } guarded
                ? Guard(guarded, settings, OptionsFor)
                : CriuServer.Run(settings, host => Serve(host, OptionsFor(host)));
        });
        return command;
    }

    /// <summary>Our own command line with one more option, before what may end the options.</summary>
    private static string[] GuardLine()
    {
        string[] own = [.. Environment.GetCommandLineArgs().Skip(1)];
        int end = own.Contains("--") ? Array.IndexOf(own, "--") : own.Length;
        return [.. own[..end], Guarding, $"{Environment.ProcessId}", .. own[end..]];
    }

    private static int Guard(int guarded, CriuSettings settings, Func<CriuServer, LazyPagesOptions> optionsFor)
    {
        ImageDirectory? images = null;
        try
        {
            return GuardProcess.Stand(guarded, () => images = ImageDirectory.Open(settings.Images), saved => CriuServer.TakeOver(settings, host =>
            {
                LazyPagesRecovery.TakeOver(optionsFor(host), images, saved);
                return 0;
            }), onDone: static () => { });
        }
        finally
        {
            images?.Dispose();
        }
    }

    private static int Serve(CriuServer host, LazyPagesOptions options)
    {
        using var interrupt = new Interrupt();
        using var progress = new Progress();
        using LazyPagesDaemon daemon = LazyPagesDaemon.Listen(options);
        host.Ready();
        try
        {
            daemon.Run(() => progress.Show("restoring", daemon.ResidentPages, daemon.TotalPages, " pages"), interrupt.Token);
            return 0;
        }
        catch (Exception e) when (e is BadInputException or InvalidOperationException)
        {
            // What scripts expect of a restore that failed, rather than our 2 for a command line that is wrong.
            host.Log(LogLevel.Error, e.Message);
            progress.Clear();
            Console.Error.WriteLine("testbed: " + e.Message.ReplaceLineEndings(" "));
            return 1;
        }
    }
}
