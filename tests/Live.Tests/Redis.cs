using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using NUnit.Framework;

namespace Testbed.Live.Tests;

/// <summary>A redis-server of the test's own, with known content.</summary>
internal sealed class Redis : IDisposable
{
    private readonly string _port;
    private readonly string _dump;
    private readonly Subject _server;

    public Redis(string? load = null)
    {
        Live.RequireProgram("redis-server");
        int port = FreePort();
        _port = $"{port}";
        _dump = load ?? $"live-{Environment.ProcessId}-{port}.rdb";
        _server = new Subject("redis-server", "--port", _port, "--save", "", "--enable-debug-command", "yes", "--dir", Path.GetTempPath(),
            "--dbfilename", _dump, "--daemonize", "no", "--loglevel", "warning");
        WaitFor(() => Ask("ping") == "PONG");
    }

    public int Pid => _server.Pid;

    public string DumpFile => _dump;

    public string Digest => Ask("debug", "digest");

    public string Traces() => _server.Traces();

    /// <summary>So many keys, each with 300 bytes.</summary>
    public Redis Filled(int keys)
    {
        Ask("debug", "populate", $"{keys}", "key", "300");
        return this;
    }

    public string Ask(params string[] arguments) => Live.Run("redis-cli", ["-p", _port, .. arguments]);

    /// <summary>Reads all over the place for some time, and does not mind being cut.</summary>
    public Process Load(int requests) => Process.Start(new ProcessStartInfo(
        "redis-benchmark", ["-p", _port, "-c", "4", "-n", $"{requests}", "-r", "100000", "-q", "get", "key:__rand_int__"])
    { RedirectStandardOutput = true, RedirectStandardError = true })!;

    public void Snapshot()
    {
        Assert.That(Ask("bgsave"), Does.Contain("started"));
        WaitFor(() => Ask("info", "persistence").Contains("rdb_bgsave_in_progress:0", StringComparison.Ordinal));
        Assert.That(Ask("info", "persistence"), Does.Contain("rdb_last_bgsave_status:ok"));
    }

    private static int FreePort()
    {
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    public static void WaitFor(Func<bool> condition, int seconds = 30)
    {
        Stopwatch clock = Stopwatch.StartNew();
        while (!condition())
        {
            Assert.That(clock.Elapsed, Is.LessThan(TimeSpan.FromSeconds(seconds)));
            Thread.Sleep(10);
        }
    }

    public void Dispose()
    {
        _server.Dispose();
        File.Delete(Path.Combine(Path.GetTempPath(), _dump));
    }
}
