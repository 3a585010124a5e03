using CsCheck;
using NUnit.Framework;
using Testbed.Core;

namespace Core.Tests;

[TestFixture]
public sealed class RemapTableTests
{
    private const int Pages = 60;

    /// <summary>Moves as the kernel reports them: what lay at the destination is unmapped first, and ranges of one
    /// move do not overlap.</summary>
    [Test]
    public void Agrees_with_a_dictionary_from_page_to_page()
    {
        Gen.Select(Gen.Int[0, Pages - 1], Gen.Int[1, 20], Gen.Int[0, Pages - 1], Gen.Bool).Array[0, 12].Sample(moves =>
        {
            var table = new RemapTable();
            var runOf = Enumerable.Range(0, Pages).ToDictionary(p => p, p => p);
            foreach ((int from, int length, int to, bool fork) in moves)
            {
                int count = Math.Min(length, Pages - Math.Max(from, to));
                if (Math.Abs(from - to) < count)
                    continue;
                table.Move(Range(from, count), new PageNumber((ulong)to));
                foreach ((int dump, int run) in runOf.ToArray())
                {
                    if (run >= to && run < to + count)
                        runOf.Remove(dump);
                    else if (run >= from && run < from + count)
                        runOf[dump] = run - from + to;
                }
                if (fork)
                    table = table.Fork();
            }
            Compare(table, runOf);
        }, iter: 2000);
    }

    private static void Compare(RemapTable table, Dictionary<int, int> runOf)
    {
        foreach ((int dump, int run) in runOf)
        {
            Check(table.TryToDump(new PageNumber((ulong)run), out PageNumber d) && d.Value == (ulong)dump, $"{run} holds {dump}");
            for (int count = 1; dump + count <= Pages; count += 3)
            {
                PageRange place = table.ToRun(Range(dump, count));
                Check(place.Start.Value == (ulong)run && place.Count >= 1 && place.Count <= count, $"{dump}+{count} is at {place}");
                for (int i = 0; i < place.Count; i++)
                    Check(!runOf.TryGetValue(dump + i, out int r) || r == run + i, $"{dump + i} is at {run + i}");
            }
        }
        Dictionary<int, int> dumpAt = runOf.ToDictionary(p => p.Value, p => p.Key);
        for (int start = 0; start < Pages; start += 7)
        {
            // What exists no more may be named still (its pages are marked unmapped); what exists must be, once.
            ulong[] named = [.. table.ToDump(Range(start, Pages - start)).SelectMany(r => Enumerable.Range(0, (int)r.Count).Select(i => r.Start.Value + (ulong)i))];
            Check(named.Distinct().Count() == named.Length, "a page is named twice");
            for (int run = start; run < Pages; run++)
                Check(!dumpAt.TryGetValue(run, out int dump) || named.Contains((ulong)dump), $"{dump} at {run} is missing");
        }
    }

    [Test]
    public void A_page_that_moved_away_left_nothing_behind()
    {
        var table = new RemapTable();
        table.Move(Range(10, 5), new PageNumber(100));
        Assert.That(table.TryToDump(new PageNumber(12), out _), Is.False);
        Assert.That(table.ToDump(Range(8, 10)), Is.EqualTo(new[] { Range(8, 2), Range(15, 3) }));
        table.Move(Range(100, 5), new PageNumber(10));
        Assert.That(table.TryToDump(new PageNumber(12), out PageNumber home) && home.Value == 12);
    }

    private static PageRange Range(int start, int count) => new(new PageNumber((ulong)start), count);

    private static void Check(bool holds, string what)
    {
        if (!holds)
            throw new InvalidOperationException(what);
    }
}
