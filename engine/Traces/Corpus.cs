using System.Security.Cryptography;
using Testbed.Core;

namespace Testbed.Traces;

/// <summary>What was found about one trace of a corpus.</summary>
/// <param name="File">Its name in the folder.</param>
/// <param name="Problem">What is wrong with it; null: nothing.</param>
public readonly record struct CorpusFinding(string File, string? Problem);

/// <summary>A folder of traces with a list of their hashes, as <c>sha256sum</c> writes it.</summary>
public static class Corpus
{
    /// <summary>The list's name.</summary>
    public const string HashList = "SHA256SUMS";

    /// <summary>
    /// Reads every trace of the folder to its end: it must be the very bytes of the list, complete, replayable, and say where it comes
    /// from. Files that the list has and the folder lacks are findings too.
    /// </summary>
    /// <exception cref="BadInputException">No folder, no list, or the list is malformed; its line is named.</exception>
    public static IEnumerable<CorpusFinding> Verify(string folder)
    {
        Dictionary<string, string> hashes = ReadList(Path.Combine(folder, HashList));
        IEnumerable<string> files = Directory.GetFiles(folder, "*.trace").Select(f => Path.GetFileName(f)).Union(hashes.Keys).Order(StringComparer.Ordinal);
        return files.Select(file => new CorpusFinding(file, Problem(Path.Combine(folder, file), hashes.GetValueOrDefault(file))));
    }

    private static Dictionary<string, string> ReadList(string file)
    {
        if (!File.Exists(file))
            throw new BadInputException($"{file}: not there; expected the hashes of the traces, as sha256sum writes them");
        var hashes = new Dictionary<string, string>();
        int number = 0;
        foreach (string line in File.ReadLines(file))
        {
            number++;
            if (line.Length < 67 || line[64] != ' ' || !line[..64].All(char.IsAsciiHexDigitLower) || !hashes.TryAdd(line[66..], line[..64]))
                throw new BadInputException($"{file}: line {number}: \"{line}\"; expected 64 hexadecimal digits, two characters and a name, each once");
        }
        return hashes;
    }

    private static string? Problem(string file, string? hash)
    {
        if (hash is null)
            return $"is not in {HashList}";
        if (!File.Exists(file))
            return $"is in {HashList}, and not there";
        string actual = Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(file)));
        if (actual != hash)
            return $"its SHA-256 is {actual}; expected {hash}";
        try
        {
            return Problem(Trace.Load(file));
        }
        catch (BadInputException e)
        {
            return e.Message;
        }
    }

    private static string? Problem(Trace trace)
    {
        TraceHeader header = trace.Header;
        if (trace.End is not { } end)
            return $"is not complete: {trace.IncompleteReason}";
        if (end.State is EndState.Failed or EndState.Interrupted)
            return $"ended as {end.State}; expected Drained or TargetExited";
        if (header.Kind != RecordingKind.Capture)
            return $"is of kind {header.Kind}; expected Capture, for touches that a policy hid are not in others";
        (string Name, string Value)[] provenance =
        [
            ("tool version", header.ToolVersion), ("tool command line", header.ToolCommandLine), ("target command line", header.TargetCommandLine),
            ("kernel", header.Kernel), ("processor", header.CpuModel), ("workload", header.Workload),
        ];
        if (provenance.FirstOrDefault(p => p.Value.Length == 0).Name is { } missing)
            return $"does not say its {missing}";
        FirstTouches touches = trace.FirstTouches();
        if (touches.Count == 0)
            return "has no first touches";
        return touches.OutsideAreas > 0 ? $"{touches.OutsideAreas} faults are in no area of its memory" : null;
    }
}
