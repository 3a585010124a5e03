using NUnit.Framework;
using Testbed.Core;
using Testbed.Uffd;

namespace Testbed.Live.Tests;

/// <summary>The two ways to learn which pages exist agree, but for zero pages, which only the scan knows.</summary>
public sealed class PagemapTests
{
    [Test]
    public void ScanAndReadAgree()
    {
        Live.RequireRoot();
        using Subject subject = Subject.Start(256, threads: false);
        using TracedProcess stopped = TracedProcess.Seize(subject.Pid);
        using Pagemap scan = new(subject.Pid), read = new(subject.Pid, useScan: false);
        List<PageRange> scanned = [], all = [];
        foreach (Mapping mapping in ProcMaps.Select(ProcMaps.Read(subject.Pid), RegionSelection.All, []))
        {
            scan.Scan(mapping.Range, scanned);
            read.Scan(mapping.Range, all);
        }
        Assert.That(all.Sum(r => r.Count), Is.InRange(4 * 256 * 6 / 7, 4 * 256 * 6 / 7 + 600));
        Assert.That(PageRanges.Subtract(scanned, all), Is.Empty);
        Assert.That(PageRanges.Subtract(all, scanned).Sum(r => r.Count), Is.LessThan(10));
    }
}
