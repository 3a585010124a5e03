using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;

namespace Testbed.Criu.Tests;

/// <summary>A redis on a port of this machine, wherever its process lives.</summary>
internal sealed partial class Redis(int port)
{
    public string Command => $"redis-server --port {port} --save '' --enable-debug-command yes --dir /tmp";

    public static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    public int Pid => int.Parse(PidLine().Match(Ask("INFO server", "process_id:\\d+")).Groups[1].ValueSpan);

    public void AwaitReady()
    {
        for (long end = Environment.TickCount64 + 20_000; ;)
        {
            try
            {
                Ask("PING", "PONG");
                return;
            }
            catch (SocketException) when (Environment.TickCount64 < end)
            {
                Thread.Sleep(50);
            }
        }
    }

    public void Fill(int keys) => Ask($"DEBUG POPULATE {keys} key 200", "OK");

    /// <summary>A hash over all data: every page that holds any is touched.</summary>
    public string Digest() => Ask("DEBUG DIGEST", "\\+[0-9a-f]{40}");

    private string Ask(string command, string expected)
    {
        using var client = new TcpClient { ReceiveTimeout = 30_000 };
        client.Connect(IPAddress.Loopback, port);
        using var writer = new StreamWriter(client.GetStream()) { AutoFlush = true, NewLine = "\r\n" };
        using var reader = new StreamReader(client.GetStream());
        writer.WriteLine(command);
        while (reader.ReadLine() is { } line)
        {
            if (Regex.Match(line, expected) is { Success: true } match)
                return match.Value;
            if (line.StartsWith('-'))
                throw new InvalidOperationException($"{command}: {line}");
        }
        throw new EndOfStreamException(command);
    }

    [GeneratedRegex(@"process_id:(\d+)")]
    private static partial Regex PidLine();
}
