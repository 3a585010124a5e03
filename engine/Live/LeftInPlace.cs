using Testbed.Core;
using Testbed.Traces;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>How much of a process's memory a capture did not take, and why.</summary>
/// <param name="Reasons">Each reason with the bytes that were resident at the stop, the largest first.</param>
/// <param name="TakenBytes">What was taken.</param>
public sealed record LeftInPlace(IReadOnlyList<LeftReason> Reasons, long TakenBytes)
{
    /// <summary>Less than this is in every process, and no reason to warn.</summary>
    private const long FewBytes = 1 << 20;

    /// <summary>Nothing was left, and nothing taken.</summary>
    public static LeftInPlace Nothing { get; } = new([], 0);

    /// <summary>All that was left.</summary>
    public long Bytes => Reasons.Sum(r => r.Bytes);

    /// <summary>
    /// Whether most of the memory stayed, so that the capture says little about the process. The pages of the program file and of its
    /// libraries do not count: they belong to files on either side of a migration.
    /// </summary>
    public bool IsMost => Reasons.Where(r => r.Reason != LeftReason.Programs).Sum(r => r.Bytes) is var left && left > TakenBytes && left > FewBytes;

    /// <summary>The reasons in one line: <c>191 MiB shared memory, 3.1 MiB program and libraries</c>.</summary>
    public override string ToString() => LeftReason.Describe(Reasons);

    /// <summary>For the header of a trace.</summary>
    public IEnumerable<KeyValuePair<string, string>> ToProperties() =>
        Reasons.Count == 0 ? [] : [new(LeftReason.Property, LeftReason.Format(Reasons))];

    /// <summary>Adds up what stayed of a process that is still stopped.</summary>
    internal static LeftInPlace Of(InPlaceTarget target, in EvictedMemory evicted, RegionSelection selection)
    {
        var bytes = new Dictionary<string, long>();
        HashSet<PageNumber> taken = [.. target.Areas.Select(a => a.Range.Start)];
        Dictionary<PageNumber, string> skipped = target.Skipped.DistinctBy(s => s.Mapping.Range.Start).ToDictionary(s => s.Mapping.Range.Start, s => s.Reason);
        HashSet<string> programs = [.. target.Mappings.Where(m => m.Inode != 0 && (m.Protection & 4) != 0).Select(m => m.Name)];
        foreach (Mapping mapping in target.Mappings.Where(m => !taken.Contains(m.Range.Start)))
            Add(skipped.GetValueOrDefault(mapping.Range.Start) ?? ReasonOf(mapping, programs, selection), BytesOf(mapping));
        Add("pages that the kernel uses, or that cannot be dropped", evicted.Resident.Sum(r => r.Bytes));
        return new LeftInPlace([.. bytes.Where(b => b.Value > 0).OrderByDescending(b => b.Value).Select(b => new LeftReason(b.Key, b.Value))],
            evicted.Image.PresentPages * PageNumber.Size);

        void Add(string reason, long count) => bytes[reason] = bytes.GetValueOrDefault(reason) + count;
    }

    private static string ReasonOf(Mapping mapping, HashSet<string> programs, RegionSelection selection) => mapping switch
    {
        _ when mapping.Has("ht") => "huge pages of hugetlbfs",
        _ when mapping.Has("io") || mapping.Has("pf") => "device memory",
        _ when mapping.IsPrivateAnonymous => $"not in region {selection.ToString().ToLowerInvariant()}",
        // What is shared without a file has a name of the kernel's: /dev/zero, /memfd:NAME, /SYSV00000000, all of them deleted.
        { IsShared: true } when mapping.Name.EndsWith(" (deleted)", StringComparison.Ordinal) || mapping.Name.StartsWith("/dev/shm/", StringComparison.Ordinal)
            || mapping.Name.StartsWith("[anon_shmem:", StringComparison.Ordinal) => "shared memory",
        _ when programs.Contains(mapping.Name) => LeftReason.Programs,
        _ => "mapped files",
    };

    /// <summary>Of device memory the kernel counts no resident pages; its own pages in the process ([vdso] and the like) are nobody's.</summary>
    private static long BytesOf(Mapping mapping) => mapping switch
    {
        _ when mapping.Name.StartsWith("[v", StringComparison.Ordinal) => 0,
        _ when mapping.Has("io") || mapping.Has("pf") => mapping.Range.Bytes,
        _ => mapping.ResidentBytes + mapping.SwappedBytes,
    };
}
