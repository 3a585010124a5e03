using CsCheck;
using Testbed.Core;
using Testbed.Replay;

namespace Replay.Tests;

/// <summary>Generators of random small worlds; CsCheck shrinks what fails.</summary>
internal static class Worlds
{
    private static readonly Gen<Duration> Cost = Gen.Long[0, 100_003].Select(ns => new Duration(ns));

    public static readonly Gen<HostCosts> Costs =
        Gen.Select(Cost, Cost, Cost, Cost, Gen.Select(Cost, Cost, Cost, Cost), Gen.Select(Cost, Cost, Cost, Cost, Cost, Cost)).Select((a, b, c, d, e, f) => new HostCosts
        {
            FaultDelivery = a,
            ThreadWake = b,
            RequestSend = c,
            // Zero would make requests ready while the link decides: no order.
            ServerPerRequest = d + new Duration(7),
            ServerPerPage = e.Item1,
            InstallPerCall = e.Item2,
            InstallPerPage = e.Item3,
            IdleWake = e.Item4,
            HostDelay = f.Item1,
            ShaperDelay = f.Item2,
            ReceivePerCall = f.Item3,
            ReceivePerPage = f.Item4,
            InstallWake = f.Item5,
            BulkThink = new Duration(f.Item6.Nanoseconds * 20),
        });

    public static readonly Gen<LinkParameters> Link = Gen.Select(Gen.Int[0, 4], Gen.Long[1, 3_000_017]).Select((rate, delay) =>
        new LinkParameters(rate == 0 ? ByteRate.Unlimited : ByteRate.FromBitsPerSecond(rate * 3.7e8), new Duration(delay)));

    public static readonly Gen<TransferOptions> Transfer = Gen.Select(Gen.Int[1, 3], Gen.Int[1, 12], Gen.Int[1, 9]).Select((lanes, flight, request) =>
        new TransferOptions { Lanes = lanes, MaxInFlight = flight * 4096, MaxRequest = request * 4096 });

    public static readonly Gen<TransferOptions> CriuTransfer = Transfer.Select(t => t with { Lanes = 1, ExclusiveBackground = true });

    public static readonly Gen<ReplayWorkload> Small = Workload(pages: 12, touches: 15);

    /// <summary>Large enough for policies that learn.</summary>
    public static readonly Gen<ReplayWorkload> Larger = Workload(pages: 60, touches: 60);

    private static Gen<ReplayWorkload> Workload(int pages, int touches) =>
        AnyImage(pages).SelectMany(image => Thread(image, touches).Array[1, 3].Select(threads => new ReplayWorkload("small", image, threads)
        {
            FirstResponseTail = new Duration(5),
            Recording = [.. threads.SelectMany(t => t.Pages).Distinct().Select(i => new PageMap(image).PageAt(i))],
        }));

    private static Gen<MemoryImage> AnyImage(int pages) =>
        Gen.Select(Gen.Int[0, 2], Gen.Int[1, pages]).Array[1, 3].SelectMany(areas => Gen.Bool.Array[areas.Sum(a => a.Item2)].Select(holes => Image(areas, holes)));

    private static Gen<TouchSequence> Thread(MemoryImage image, int most) =>
        Gen.Select(Gen.OneOf(Scattered(image, most), Strided(image, most)), Gen.Int[0, most]).SelectMany((pages, first) =>
            Gen.Select(Gen.Long[0, 2_000_003].Array[pages.Length], Gen.Bool.Array[pages.Length]).Select((think, writes) =>
                new TouchSequence(pages, think, writes) { BeforeFirstResponse = Math.Min(first, pages.Length) }));

    private static Gen<uint[]> Scattered(MemoryImage image, int most) => Gen.UInt[0, (uint)image.TotalPages - 1].Array[0, most];

    private static Gen<uint[]> Strided(MemoryImage image, int most) =>
        Gen.Select(Gen.Int[0, (int)image.TotalPages - 1], Gen.Int[-3, 3], Gen.Int[0, most]).Select((from, step, count) => Enumerable.Range(0, count)
            .Select(i => (long)from + i * step).TakeWhile(page => page >= 0 && page < image.TotalPages).Select(page => (uint)page).ToArray());

    private static MemoryImage Image((int Gap, int Count)[] areas, bool[] holes)
    {
        var all = new List<MemoryArea>();
        var present = new List<PageRange>();
        ulong at = 100;
        foreach ((int gap, int count) in areas)
        {
            at += (ulong)gap;
            all.Add(new MemoryArea(new PageRange(new PageNumber(at), count), "", 3));
            for (int i = 0; i < count; i++, at++)
            {
                if (!holes[(int)all.Take(all.Count - 1).Sum(a => a.Range.Count) + i])
                    present.Add(PageRange.Single(new PageNumber(at)));
            }
        }
        return new MemoryImage(all, present);
    }
}
