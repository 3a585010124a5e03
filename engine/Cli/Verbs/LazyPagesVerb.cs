using System.CommandLine;
using System.Net;
using Testbed.Core;
using Testbed.Live;
using Testbed.PageXfer.Xfer;
using Testbed.Policies;
using Testbed.Traces;

namespace Testbed.Cli.Verbs;

/// <summary>testbed lazy-pages</summary>
internal static class LazyPagesVerb
{
    public static Command Create()
    {
        var criu = new CriuCommandLine();
        var remote = new Option<bool>("--page-server") { Description = "fetch the pages from a page server; default: they are in the images" };
        var address = new Option<string>("--address") { Description = "where the page server is", DefaultValueFactory = _ => "127.0.0.1" };
        var port = new Option<int>("--port") { Description = "its port" };
        var policy = new Option<string>("--policy")
        {
            Description = "what comes when: NAME or NAME:OPTION=VALUE,...; testbed policies lists them",
            DefaultValueFactory = _ => "bubbling",
        };
        var trace = new Option<string?>("--trace") { Description = "write a fault trace of the restore to this file" };
        var recording = new Option<string?>("--recording") { Description = "an earlier trace, for policies that go by one" };
        var command = new Command("lazy-pages", """
            Take the place of criu lazy-pages: serve the page faults of the processes that criu restore --lazy-pages restores, and move
            the rest of their memory in the background. Ends when all is in; exit code 0 then, 1 when the restore failed. Asked to
            end before (SIGTERM, Ctrl-C), it first brings in what is missing.

            Examples:
              testbed lazy-pages -D images -o lazy.log -v4                                     and: criu restore --lazy-pages -D images ...
              testbed lazy-pages -D images --page-server --address 10.0.0.1 --port 9876 -d   and at the source: criu dump --lazy-pages ...
            """)
        { remote, address, port, policy, trace, recording };
        criu.AddTo(command);
        command.SetAction(parsed =>
        {
            CriuSettings settings = criu.Read(parsed);
            EndPoint? server = parsed.GetValue(remote) ? ServerAt(parsed.GetRequiredValue(address), parsed.GetValue(port)) : null;
            string? recorded = parsed.GetValue(recording);
            return CriuServer.Run(settings, host => Serve(host, new LazyPagesOptions
            {
                ImagesPath = settings.Images,
                WorkPath = settings.Work,
                Connect = server is null ? null : () => PageLane.Connect(server),
                Policy = PolicyCatalog.Parse(parsed.GetRequiredValue(policy)),
                Recording = recorded is null ? [] : Trace.Load(recorded).FirstTouches().Recording,
                TracePath = parsed.GetValue(trace),
                ToolCommandLine = "testbed " + string.Join(' ', Environment.GetCommandLineArgs().Skip(1)),
                Log = (level, line) => host.Log((LogLevel)level, line),
            }));
        });
        return command;
    }

    private static IPEndPoint ServerAt(string address, int port)
    {
        if (port is < 1 or > 65535)
            throw new BadInputException($"--port {port}: expected 1 to 65535");
        IPAddress[] found = IPAddress.TryParse(address, out IPAddress? ip) ? [ip] : Resolve(address);
        return new IPEndPoint(found[0], port);
    }

    private static IPAddress[] Resolve(string name)
    {
        try
        {
            return Dns.GetHostAddresses(name) is { Length: > 0 } found ? found : throw new BadInputException($"--address {name}: has no address");
        }
        catch (System.Net.Sockets.SocketException e)
        {
            throw new BadInputException($"--address {name}: {e.Message}; expected an IP address or a host name", e);
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
