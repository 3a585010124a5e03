using System.ComponentModel;
using System.Text.Json.Serialization;
using Testbed.Core;

namespace Testbed.Scenarios;

/// <summary>How a workload is spoken to.</summary>
[JsonConverter(typeof(NameConverter<Protocol>))]
public enum Protocol
{
    /// <summary>RESP, as redis speaks it. A request is words with spaces between.</summary>
    Resp,

    /// <summary>The memcached text protocol. A request is what goes over the wire, without the last CR LF.</summary>
    Memcached,

    /// <summary>One line asked, one line answered. An answer that begins with "error" is one; "missing" is a missing key.</summary>
    Line,

    /// <summary>PostgreSQL's protocol, version 3, simple queries, user and database postgres. The answer is the rows.</summary>
    Postgres,

    /// <summary>The program is not spoken to: it works by itself, and a request is a regular expression for a line that it prints.</summary>
    Output,
}

/// <summary>How keys are drawn.</summary>
[JsonConverter(typeof(NameConverter<KeyDistribution>))]
public enum KeyDistribution
{
    /// <summary>Each as likely as the other.</summary>
    Uniform,

    /// <summary>Zipf's law with a skew below 1, ranks scattered over the key space, as in YCSB.</summary>
    Zipf,

    /// <summary>One after the other.</summary>
    Sequential,
}

/// <summary>A program that a step of a workload runs, with the workload's placeholders.</summary>
public sealed record ProgramCall
{
    /// <summary>The program: a name on PATH or an absolute path.</summary>
    [Description("The program: a name on PATH or an absolute path")]
    public required string Command { get; init; }

    /// <summary>Its arguments.</summary>
    [Description("Its arguments")]
    public IReadOnlyList<string> Arguments { get; set; } = [];
}

/// <summary>How the data gets in: a request per key, one request, or a program.</summary>
public sealed record FillStep
{
    /// <summary>The request; with {key} or {n} it is sent once for each key.</summary>
    [Description("The request; with {key} or {n} it is sent once for each key")]
    public string? Request { get; init; }

    /// <summary>Or a program that fills.</summary>
    [Description("Or a program that fills")]
    public ProgramCall? Program { get; init; }
}

/// <summary>The load: closed loop, each connection with one request open.</summary>
public sealed record LoadStep
{
    /// <summary>The request.</summary>
    [Description("The request of the built-in closed-loop load")]
    public string? Request { get; init; }

    /// <summary>Or a program; {seconds} is the duration. It reports no latencies to us.</summary>
    [Description("Or a program, which reports no latencies to us; {seconds} is the duration")]
    public ProgramCall? Program { get; init; }

    /// <summary>Connections, each on a thread of its own, 1 to 256.</summary>
    [Description("Connections, each on a thread of its own, 1 to 256")]
    public int Connections { get; set; } = 4;

    /// <summary>How keys are drawn.</summary>
    [Description("How keys are drawn")]
    public KeyDistribution Distribution { get; set; }

    /// <summary>The skew of zipf, above 0 and below 1.</summary>
    [Description("The skew of zipf, above 0 and below 1")]
    public double Skew { get; set; } = 0.99;

    /// <summary>How many requests make a capture of the corpus, 1 to a trillion; absent: until the time is up.</summary>
    [Description("How many requests make a capture of the corpus, 1 to a trillion; absent: until the time is up")]
    public long Requests { get; set; } = WorkloadFile.Unlimited;
}

/// <summary>The same workload in a size that runs in seconds, for tests and CI.</summary>
public sealed record SmallSize
{
    /// <summary>How many keys.</summary>
    [Description("How many keys")]
    public required long Keys { get; init; }

    /// <summary>How many requests make a capture.</summary>
    [Description("How many requests make a capture")]
    public long Requests { get; set; } = WorkloadFile.Unlimited;
}

/// <summary>How the data is checked: one request whose answer is the digest; without it every key is read back and hashed.</summary>
public sealed record CheckStep
{
    /// <summary>The request; with {key} or {n} it is sent for each key and all answers are hashed.</summary>
    [Description("The request; with {key} or {n} it is sent for each key and all answers are hashed")]
    public required string Request { get; init; }
}

/// <summary>How the program is stopped; after the timeout it is killed.</summary>
public sealed record StopStep
{
    /// <summary>How long it may take after SIGTERM.</summary>
    [Description("How long it may take after SIGTERM before it is killed")]
    public Duration Timeout { get; set; } = Duration.FromSeconds(10);
}

/// <summary>
/// How a real, unmodified program is started, filled, loaded, checked and stopped: one JSON file each. In command,
/// arguments and environment stand {address} (where to listen), {port} (a free TCP port), {dir} (a new folder, removed
/// at the end), {unixsocket} (a path in it), {here} (the folder of the file) and {keys}; in requests {key}
/// (key:000000000012, the names that redis-benchmark uses), {n} (its number), {value} and {size} (its bytes), {keys},
/// {seed} (of the load) and {cursor} (the first word of the answer before, at first 0).
/// </summary>
public sealed record WorkloadFile
{
    /// <summary>So many requests that the time is up before.</summary>
    public const long Unlimited = 1_000_000_000_000;

    private const string SmallSuffix = "-small";

    /// <summary>The schema that editors check against; not used otherwise.</summary>
    [JsonPropertyName("$schema")]
    public string? Schema { get; init; }

    /// <summary>The name: the file's, without .json.</summary>
    [Description("The name: the file's, without .json")]
    public required string Name { get; init; }

    /// <summary>One sentence for people.</summary>
    [Description("One sentence for people")]
    public required string Description { get; init; }

    /// <summary>The programs that it needs, each with the Debian package that has it; empty: what is there wherever the testbed runs.</summary>
    [Description("The programs that it needs, each with the Debian package that has it; an empty one is there wherever the testbed runs")]
    public required IReadOnlyDictionary<string, string> Programs { get; init; }

    /// <summary>Programs that are run in {dir} before the start, one after the other.</summary>
    [Description("Programs that are run in {dir} before the start, one after the other: to compile, to make an empty database")]
    public IReadOnlyList<ProgramCall> Prepare { get; set; } = [];

    /// <summary>The user to run it as, for programs that refuse to be root; absent: whoever runs the testbed.</summary>
    [Description("The user to run it as, for programs that refuse to be root; absent: whoever runs the testbed")]
    public string? User { get; init; }

    /// <summary>The program to be restored.</summary>
    [Description("The program to be restored: a name on PATH or an absolute path")]
    public required string Command { get; init; }

    /// <summary>Its arguments.</summary>
    [Description("Its arguments, with {port} {dir} {unixsocket} {here}")]
    public IReadOnlyList<string> Arguments { get; set; } = [];

    /// <summary>Environment variables set for it.</summary>
    [Description("Environment variables set for it")]
    public IReadOnlyDictionary<string, string> Environment { get; set; } = new Dictionary<string, string>();

    /// <summary>How it is spoken to, over {unixsocket} when an argument has it, otherwise over {port}.</summary>
    [Description("How it is spoken to, over {unixsocket} when an argument has it, otherwise over {port}")]
    public required Protocol Protocol { get; init; }

    /// <summary>A request whose answer is the id of the process to be restored.</summary>
    [Description("When it is not the started process that is restored but one that serves a connection: a request whose answer is its process id. The connection is then kept for all steps")]
    public string? Target { get; init; }

    /// <summary>How many keys, 1 to 1,000,000,000.</summary>
    [Description("How many keys, 1 to 1000000000")]
    public required long Keys { get; init; }

    /// <summary>How long each value is, 1 B to 1 MB.</summary>
    [Description("How long each value is, 1B to 1MB")]
    public required ByteSize ValueSize { get; init; }

    /// <summary>How long it may take until the first response after its start.</summary>
    [Description("How long it may take until the first response after its start")]
    public Duration StartTimeout { get; set; } = Duration.FromSeconds(30);

    /// <summary>The request whose answer means that the program serves: readiness, and time to first response.</summary>
    [Description("The request whose answer means that the program serves: readiness, and time to first response")]
    public required string FirstResponse { get; init; }

    /// <summary>How the data gets in.</summary>
    [Description("How the data gets in")]
    public required FillStep Fill { get; init; }

    /// <summary>The load.</summary>
    [Description("The load")]
    public required LoadStep Load { get; init; }

    /// <summary>How the data is checked.</summary>
    [Description("How the data is checked")]
    public required CheckStep Check { get; init; }

    /// <summary>How it is stopped.</summary>
    [Description("How it is stopped")]
    public StopStep Stop { get; set; } = new();

    /// <summary>The same in a size that runs in seconds: its name ends in -small. A workload that has it is part of the corpus.</summary>
    [Description("The same in a size that runs in seconds, for tests and CI; its name is this one's with -small behind. A workload that has it is part of the corpus")]
    public SmallSize? Small { get; init; }

    /// <summary>The file that it was read from, as an absolute path.</summary>
    [JsonIgnore]
    public string File { get; private init; } = "";

    /// <summary>Whether it listens on a Unix socket.</summary>
    [JsonIgnore]
    public bool UsesUnixSocket => Arguments.Any(a => a.Contains("{unixsocket}", StringComparison.Ordinal));

    /// <summary>The JSON schema of workload files.</summary>
    public static string JsonSchema => StrictJson.Schema(ScenarioJson.Default.WorkloadFile, "Workload");

    /// <summary>
    /// Reads and checks a workload file. The programs need not be installed: see <see cref="Workload.Missing"/>.
    /// <c>NAME-small.json</c> stands for the small size in <c>NAME.json</c>.
    /// </summary>
    /// <exception cref="BadInputException">Names file, field, what is wrong and what is expected.</exception>
    public static WorkloadFile FromFile(string file)
    {
        string full = FullSizeFile(file);
        WorkloadFile workload = StrictJson.Load(full, ScenarioJson.Default.WorkloadFile) with { File = Path.GetFullPath(full) };
        workload.CheckFields(full);
        return full == file ? workload : workload.InSmall();
    }

    /// <summary>Whether <see cref="FromFile"/> finds something under this name.</summary>
    public static bool Exists(string file) => System.IO.File.Exists(FullSizeFile(file));

    /// <summary>The workload in its small size.</summary>
    /// <exception cref="BadInputException">It has none.</exception>
    public WorkloadFile InSmall() => Small is not { } small
        ? throw new BadInputException($"{File}: $.small: missing; expected the keys and requests of a small size")
        : this with { Name = Name + SmallSuffix, Keys = small.Keys, Load = Load with { Requests = small.Requests }, Small = null };

    private static string FullSizeFile(string file)
    {
        string end = SmallSuffix + ".json";
        return file.EndsWith(end, StringComparison.Ordinal) && !System.IO.File.Exists(file) ? file[..^end.Length] + ".json" : file;
    }

    private void CheckFields(string file)
    {
        var field = new FieldCheck(file);
        field.Name("name", Name);
        field.Require("name", Path.GetFileNameWithoutExtension(file) == Name, $"\"{Name}\"", $"the file's own name, \"{Path.GetFileNameWithoutExtension(file)}\"");
        foreach (string? program in (string?[])[Command, Load.Program?.Command, Fill.Program?.Command, .. Prepare.Select(p => p.Command)])
        {
            if (program is not null && !program.StartsWith("{dir}/", StringComparison.Ordinal))
                field.Require("programs", Programs.ContainsKey(program), $"no package for \"{program}\"", "each program with its Debian package");
        }
        field.Strings("arguments", Arguments);
        field.Strings("fill.program.arguments", Fill.Program?.Arguments ?? []);
        field.Strings("load.program.arguments", Load.Program?.Arguments ?? []);
        field.Strings("programs", Programs.Values);
        field.Strings("environment", Environment.Values);
        for (int i = 0; i < Prepare.Count; i++)
            field.Strings($"prepare[{i}].arguments", Prepare[i].Arguments);
        field.Require("arguments", Protocol == Protocol.Output || UsesUnixSocket || Arguments.Any(a => a.Contains("{port}", StringComparison.Ordinal)),
            "neither {port} nor {unixsocket}", "one of them, so that the program can be reached");
        field.Range("keys", Keys, 1, 1_000_000_000);
        field.Range("valueSize", ValueSize, new ByteSize(1), new ByteSize(1_000_000));
        field.Range("startTimeout", StartTimeout, Duration.FromMilliseconds(100), Duration.FromSeconds(3600));
        field.Range("stop.timeout", Stop.Timeout, Duration.Zero, Duration.FromSeconds(3600));
        field.Range("load.connections", Load.Connections, 1, 256);
        field.Range("load.skew", Load.Skew, 0.01, 0.999);
        field.Range("load.requests", Load.Requests, 1, Unlimited);
        field.Range("small.keys", Small?.Keys ?? 1, 1, Keys);
        field.Range("small.requests", Small?.Requests ?? 1, 1, Unlimited);
        field.Require("load.connections", Load.Connections == 1 || (Target is null && Protocol != Protocol.Output), $"{Load.Connections}",
            "1: a process that serves one connection, or is not spoken to, has no more");
        field.Require("fill", Fill.Request is null != Fill.Program is null, "both or none of request and program", "one of them");
        field.Require("load", Load.Request is null != Load.Program is null, "both or none of request and program", "one of them");
        CheckRequest("firstResponse", FirstResponse);
        CheckRequest("fill.request", Fill.Request);
        CheckRequest("load.request", Load.Request);
        CheckRequest("check.request", Check.Request);
        CheckRequest("target", Target);

        void CheckRequest(string path, string? request)
        {
            if (request is null)
                return;
            try
            {
                _ = RequestTemplate.Parse(request, this);
            }
            catch (BadInputException e)
            {
                throw new BadInputException($"{file}: $.{path}: {e.Message}", e);
            }
        }
    }
}
