using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using NUnit.Framework;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Xfer;
using Testbed.Scenarios;

namespace Testbed.Criu.Tests;

/// <summary>
/// How our page server ends, as a process: with its client's session, as CRIU's does, or when it is told to.
/// </summary>
public sealed class ServedSessionsTests
{
    private const uint Pid = 1000, Zombie = 1001;
    private static readonly PageRange Memory = new(PageNumber.Of(0x10_0000_0000), 64);
    private static readonly Duration Patience = Duration.FromSeconds(20);

    private readonly List<Process> _started = [];
    private DirectoryInfo _images = null!;
    private IDisposable? _limits;
    private int _port;

    [SetUp]
    public void WriteImages()
    {
        _limits = CriuSetup.LiftPipeLimits();
        _images = Directory.CreateTempSubdirectory("testbed-sessions-");
        using (var sink = new LocalPageSink(_images.FullName, PagemapId.Task(Pid)))
        {
            sink.WritePagemap(Memory, PagemapFlags.Lazy | PagemapFlags.Present);
            for (byte i = 0; i < Memory.Count; i++)
                sink.WritePages(Enumerable.Repeat(i, PageNumber.Size).ToArray());
            sink.Complete();
        }
        MmEntry layout = ProcessImages.NewLayout([ProcessImages.NewArea(Memory, 3, isPrivate: true, isFile: false, 0, "")]);
        ProcessImages.Write(_images.FullName, [(new ProcessIdentity(Pid, Pid, Pid, [Pid]), layout), (new ProcessIdentity(Zombie, Pid, Pid, [], Pid), layout)]);
        // As CRIU leaves a zombie: in the tree, and without memory.
        File.Delete(In($"mm-{Zombie}.img"));
        ImageFile.Write(In($"core-{Zombie}.img"), ImageMagic.Core, new CoreEntry
        {
            Mtype = 1,
            Tc = new TaskCoreEntry { TaskState = 6, ExitCode = 0, Personality = 0, Flags = 0, BlkSigset = 0, Comm = "zombie" },
        });
    }

    [TearDown]
    public void Stop()
    {
        foreach (Process process in _started)
        {
            if (!process.HasExited)
                process.Kill(entireProcessTree: true);
            process.Dispose();
        }
        _started.Clear();
        _images.Delete(recursive: true);
        _limits?.Dispose();
    }

    [TestCase(false)]
    [TestCase(true)]
    public void Server_ends_with_0_when_its_client_says_CLOSE(bool criu)
    {
        Process server = Serve(criu, "--lazy-pages");
        PageLane lane = Connect();
        lane.Fetch(Pid, Memory, Patience);
        lane.Close(Patience);
        AssertEnds(server, 0);
    }

    [Test]
    public void Server_goes_on_when_a_client_goes_without_CLOSE_and_ends_when_it_came_back()
    {
        Process server = Serve("--lazy-pages");
        // Nobody, somebody who dies, and somebody who speaks half a message.
        Connect().Dispose();
        using (PageLane lost = Connect())
            lost.Fetch(Pid, PageRange.Single(Memory.Start), Patience);
        using (Socket half = ConnectSocket())
            half.Send(new byte[20]);
        PageLane again = Connect();
        again.Fetch(Pid, Memory, Patience);
        Assert.That(server.HasExited, Is.False);
        again.Close(Patience);
        AssertEnds(server, 0);
    }

    /// <summary>Several connections are one session, and CLOSE comes over one of them, or over each.</summary>
    [TestCase(1)]
    [TestCase(3)]
    public void Server_waits_for_all_connections_that_fetch_when_one_of_them_says_CLOSE(int closes)
    {
        Process server = Serve("--lazy-pages");
        PageLane[] lanes = [Connect(), Connect(), Connect()];
        foreach (PageLane lane in lanes)
            lane.Fetch(Pid, PageRange.Single(Memory.Start), Patience);
        lanes[0].Close(Patience);
        lanes[1].Fetch(Pid, Memory, Patience);
        lanes[2].Fetch(Pid, Memory, Patience);
        Assert.That(server.HasExited, Is.False, "somebody is served");
        for (int i = 1; i < lanes.Length; i++)
        {
            if (i < closes)
                lanes[i].Close(Patience);
            else
                lanes[i].Leave(Patience);
        }
        AssertEnds(server, 0);
    }

    [Test]
    public void Server_ends_after_so_many_sessions_when_it_is_told_their_number()
    {
        Process server = Serve("--lazy-pages", "--sessions", "3");
        for (int i = 0; i < 3; i++)
        {
            Assert.That(server.HasExited, Is.False);
            PageLane lane = Connect();
            lane.Fetch(Pid, Memory, Patience);
            lane.Close(Patience);
        }
        AssertEnds(server, 0);
    }

    [Test]
    public void Server_goes_on_until_SIGTERM_when_sessions_are_0()
    {
        Process server = Serve("--lazy-pages", "--sessions", "0");
        for (int i = 0; i < 3; i++)
            Connect().Close(Patience);
        using (PageLane wrong = Connect())
            Assert.That(() => wrong.Fetch(4711, Memory, Patience), Throws.TypeOf<BadInputException>());
        PageLane lane = Connect();
        lane.Fetch(Pid, Memory, Patience);
        lane.Close(Patience);
        RealCriu.Run("kill", ["-TERM", $"{server.Id}"]);
        AssertEnds(server, 0);
    }

    [TestCase(4711u, "no memory of a process 4711; expected one of 1000")]
    [TestCase(Zombie, "process 1001 is a zombie, which has no memory; expected one of 1000")]
    public void Server_ends_with_1_when_it_is_asked_for_a_process_that_it_has_not(uint pid, string says)
    {
        Process server = Serve("--lazy-pages");
        using PageLane lane = Connect();
        Assert.That(() => lane.Fetch(pid, Memory, Patience), Throws.TypeOf<BadInputException>());
        AssertEnds(server, 1);
        Assert.That(File.ReadAllText(In("server.log")), Does.Contain(says));
    }

    [Test]
    public void Server_ends_with_1_when_it_is_asked_for_a_page_that_it_has_not_and_others_get_theirs_before()
    {
        Process server = Serve("--lazy-pages");
        PageLane good = Connect();
        good.Fetch(Pid, Memory, Patience);
        using (PageLane lane = Connect())
            Assert.That(() => lane.Fetch(Pid, PageRange.Single(Memory.End), Patience), Throws.TypeOf<BadInputException>());
        good.Fetch(Pid, Memory, Patience);
        good.Close(Patience);
        AssertEnds(server, 1);
    }

    /// <summary>Each of these ends the real CRIU's server, too: with 1, or with a crash.</summary>
    [Test]
    public void Server_ends_with_1_when_a_client_of_its_pages_says_no_command([Values] bool criu) => EndsWith1(criu, true, 0xbad);

    /// <inheritdoc cref="Server_ends_with_1_when_a_client_of_its_pages_says_no_command"/>
    [Test]
    public void Server_ends_with_1_when_a_client_of_its_pages_sends_images([Values] bool criu) =>
        EndsWith1(criu, true, (uint)PageServerCommand.Open2);

    /// <inheritdoc cref="Server_ends_with_1_when_a_client_of_its_pages_says_no_command"/>
    [Test]
    public void Server_ends_with_1_when_it_receives_and_is_asked_for_pages([Values] bool criu) =>
        EndsWith1(criu, false, (uint)PageServerCommand.Get);

    /// <inheritdoc cref="Server_ends_with_1_when_a_client_of_its_pages_says_no_command"/>
    [Test]
    public void Server_ends_with_1_when_the_dump_goes_without_a_word([Values] bool criu) => EndsWith1(criu, false, null);

    private void EndsWith1(bool criu, bool serves, uint? command)
    {
        Process server = Serve(criu, serves ? ["--lazy-pages"] : []);
        using (Socket client = ConnectSocket())
        {
            if (command is { } says)
            {
                var message = new byte[PageServerMessage.Size];
                BitConverter.TryWriteBytes(message, says);
                client.Send(message);
                client.ReceiveTimeout = 20_000;
                Assert.That(() => Received(client), Is.Zero, "it closes the connection");
            }
        }
        Assert.That(server.WaitForExit(TimeSpan.FromSeconds(20)), Is.True, "ends");
        Assert.That(server.ExitCode, criu ? Is.Not.Zero : Is.EqualTo(1));
    }

    /// <summary>Relative to where it was started: the images, and the work directory, which has the log and the socket.</summary>
    [Test]
    public void Daemon_ends_with_1_when_the_restorer_goes_and_replaces_a_stale_socket([Values] bool criu)
    {
        Directory.CreateDirectory(In("work"));
        File.WriteAllText(In("work/lazy-pages.socket"), "stale");
        string[] program = Program(criu);
        Process daemon = Process.Start(new ProcessStartInfo(program[0],
            [.. program[1..], "lazy-pages", "--no-default-config", "-D", ".", "-W", "work", "-o", "lazy.log", "-v4", "--status-fd", "1"])
        {
            WorkingDirectory = _images.FullName,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        _started.Add(daemon);
        Assert.That(daemon.StandardOutput.Read(), Is.Zero, () => daemon.StandardError.ReadToEnd());
        using (var restorer = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
            restorer.Connect(new UnixDomainSocketEndPoint(In("work/lazy-pages.socket")));
        AssertEnds(daemon, 1);
        Assert.That(new FileInfo(In("work/lazy.log")).Length, Is.Positive);
    }

    [TestCase("127.0.0.1", "::", TestName = "Server_at_any_address_takes_IPv4_clients")]
    [TestCase("::1", "::", TestName = "Server_at_any_address_takes_IPv6_clients")]
    [TestCase("127.0.0.1", "localhost", TestName = "Server_listens_on_a_host_name")]
    [TestCase("127.0.0.1", null, TestName = "Server_without_an_address_takes_IPv4_clients")]
    public void Server_takes_clients(string from, string? address)
    {
        Process server = ServeAt(address, ["--lazy-pages"]);
        PageLane lane = PageLane.Connect(new IPEndPoint(IPAddress.Parse(from), _port));
        lane.Fetch(Pid, Memory, Patience);
        lane.Close(Patience);
        AssertEnds(server, 0);
    }

    /// <summary>As p.haul has it: the one who starts the server has the socket. Python hands it over.</summary>
    [TestCase("connected", TestName = "Server_serves_the_inherited_connection_and_ends_with_it")]
    [TestCase("listening", TestName = "Server_takes_connections_from_the_inherited_socket")]
    public void Server_uses_the_inherited_socket(string kind)
    {
        _port = Redis.FreePort();
        string program = $$"""
            import os, socket, sys
            s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", {{_port}})); s.listen(5)
            c = s.accept()[0] if "{{kind}}" == "connected" else s
            os.set_inheritable(c.fileno(), True)
            os.execvp(sys.argv[1], sys.argv[1:] + ["--ps-socket", str(c.fileno())])
            """;
        Process server = RealCriu.Start("/usr/bin/python3", ["-c", program, .. RealCriu.Daemon, "page-server", "--lazy-pages", "-D", _images.FullName, "-o", "server.log", "-v4"]);
        _started.Add(server);
        PageLane lane = Connect();
        lane.Fetch(Pid, Memory, Patience);
        lane.Close(Patience);
        AssertEnds(server, 0);
    }

    [Test]
    public void Server_runs_scripts_and_logs_remarks_when_it_is_ready()
    {
        File.WriteAllText(In("script"), "#!/bin/sh\necho $CRTOOLS_SCRIPT_ACTION $CRTOOLS_IMAGE_DIR >> done\n");
        _ = RealCriu.Run("chmod", ["+x", In("script")]);
        Process server = Serve("--lazy-pages", "--action-script", "./script", "-t", "1", "-j", "-j");
        Assert.That(File.ReadAllText(In("done")), Is.EqualTo($"status-ready {_images.FullName}\n"));
        Connect().Close(Patience);
        AssertEnds(server, 0);
        Assert.That(File.ReadLines(In("server.log")).Count(line => line.Contains("of no effect on page-server: --shell-job, --tree")), Is.EqualTo(1));
    }

    /// <summary>CRIU's daemon keeps the output that it had: a log without a file goes on there.</summary>
    [Test]
    public void Server_in_the_background_goes_on_logging_to_the_output_of_who_started_it()
    {
        _port = Redis.FreePort();
        Outcome outcome = RealCriu.Run("sh", ["-c", "\"$@\" && kill $(cat \"$0\")", In("server.pid"), .. RealCriu.Daemon, "page-server", "--lazy-pages",
            "-D", _images.FullName, "--address", "127.0.0.1", "--port", $"{_port}", "-d", "--pidfile", "server.pid", "-v4", "-o", "-"]);
        Assert.That(outcome.ExitCode, Is.Zero, outcome.Errors);
        Assert.That(outcome.Output, Does.Contain("serving").And.Contain("0 requests answered"));
    }

    private Process Serve(params string[] options) => ServeAt("127.0.0.1", options);

    private Process Serve(bool criu, params string[] options) => ServeAt("127.0.0.1", options, criu);

    private static string[] Program(bool criu)
    {
        if (criu)
            RealCriu.Require();
        return criu ? [RealCriu.Program] : RealCriu.Daemon;
    }

    private Process ServeAt(string? address, string[] options, bool criu = false)
    {
        string[] program = Program(criu);
        _port = Redis.FreePort();
        string[] at = address is null ? [] : ["--address", address];
        Process server = RealCriu.Start(program[0], [.. program[1..], "page-server", "--no-default-config", "-D", _images.FullName, .. at,
            "--port", $"{_port}", "-o", "server.log", "-v4", "--status-fd", "1", .. options]);
        _started.Add(server);
        Assert.That(server.StandardOutput.Read(), Is.Zero, () => server.StandardError.ReadToEnd());
        return server;
    }

    private PageLane Connect()
    {
        for (long end = Environment.TickCount64 + 20_000; ;)
        {
            try
            {
                return PageLane.Connect(new IPEndPoint(IPAddress.Loopback, _port));
            }
            catch (BadInputException) when (Environment.TickCount64 < end)
            {
                Thread.Sleep(20);
            }
        }
    }

    private Socket ConnectSocket()
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Connect(IPAddress.Loopback, _port);
        return socket;
    }

    private static int Received(Socket socket)
    {
        try
        {
            return socket.Receive(new byte[64]);
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset)
        {
            return 0;
        }
    }

    private static void AssertEnds(Process server, int exitCode)
    {
        Assert.That(server.WaitForExit(TimeSpan.FromSeconds(20)), Is.True, "ends");
        Assert.That(server.ExitCode, Is.EqualTo(exitCode));
    }

    private string In(string file) => Path.Combine(_images.FullName, file);
}
