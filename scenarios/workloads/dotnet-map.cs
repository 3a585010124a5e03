// A dictionary behind a TCP port, a line asked and a line answered: SET n value, GET n, CHECK, PING; port and address are given.
using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;

var table = new ConcurrentDictionary<long, string>();
var listener = new TcpListener(IPAddress.Parse(args[1]), int.Parse(args[0]));
listener.Start();
while (true)
{
    TcpClient client = listener.AcceptTcpClient();
    new Thread(() => Serve(client)) { IsBackground = true }.Start();
}

void Serve(TcpClient client)
{
    try
    {
        client.NoDelay = true;
        using var reader = new StreamReader(client.GetStream(), Encoding.Latin1);
        while (reader.ReadLine() is { } line)
            client.Client.Send(Encoding.Latin1.GetBytes(Answer(line) + "\n"));
    }
    catch (IOException)
    {
        // The client is gone.
    }
}

string Answer(string line)
{
    string[] words = line.Split(' ');
    switch (words[0])
    {
        case "GET":
            long key = long.Parse(words[1]);
            if (!table.TryGetValue(key, out string? value))
                return "missing";
            // A copy takes its place: the heap is always in motion, and the data stays as it is.
            table.TryUpdate(key, new string(value.AsSpan()), value);
            return value;
        case "SET":
            table[long.Parse(words[1])] = words[2];
            return "ok";
        case "CHECK":
            ulong total = 14695981039346656037;
            foreach ((long n, string text) in table.OrderBy(e => e.Key))
            {
                foreach (char c in $"{n}={text};")
                    total = (total ^ c) * 1099511628211;
            }
            return $"{table.Count}:{total:x16}";
        default:
            return words[0] == "PING" ? "pong" : "error unknown request";
    }
}
