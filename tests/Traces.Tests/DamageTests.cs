using System.IO.Hashing;
using Testbed.Core;
using ZstdSharp;

namespace Testbed.Traces.Tests;

/// <summary>Files that were cut off, damaged, or are no traces.</summary>
public class DamageTests
{
    [Test]
    public void CutOffAnywhereGivesAllWholeBlocks()
    {
        byte[] file = Samples.WriteBlocks(blocks: 4, faultsPerBlock: 20, Samples.End);
        Trace whole = Samples.Load(file);
        (int Start, int End, BlockKind Kind)[] blocks = [.. RawFile.Blocks(file)];
        Assert.That(blocks.Count(b => b.Kind == BlockKind.Faults), Is.EqualTo(4));
        for (int length = 0; length < file.Length; length++)
        {
            byte[] cut = file[..length];
            if (length < blocks[0].End)
            {
                Assert.That(() => Samples.Load(cut), Throws.TypeOf<BadInputException>(), $"cut to {length} bytes");
                continue;
            }
            Trace trace = Samples.Load(cut);
            int wholeBlocks = blocks.Count(b => b.Kind == BlockKind.Faults && b.End <= length);
            Assert.That(trace.IsComplete, Is.False, $"cut to {length} bytes");
            Assert.That(trace.IncompleteReason, Does.Contain("cut off at byte"));
            Assert.That(trace.Faults, Is.EqualTo(whole.Faults[..(wholeBlocks * 20)]), $"cut to {length} bytes");
        }
    }

    [Test]
    public void ZerosAtTheEndAreACutAndNotDamage()
    {
        byte[] file = Samples.WriteBlocks(3, 10, end: null);
        Trace trace = Samples.Load([.. file, .. new byte[5000]]);
        Assert.That(trace.Faults, Has.Length.EqualTo(30));
        Assert.That(trace.IsComplete, Is.False);
    }

    [Test]
    public void OneWrongBitAnywhereIsNoticed()
    {
        byte[] file = Samples.WriteBlocks(2, 20, Samples.End);
        for (int bit = 0; bit < file.Length * 8; bit += 3)
        {
            byte[] damaged = [.. file];
            damaged[bit / 8] ^= (byte)(1 << bit % 8);
            Assert.That(() => Samples.Load(damaged), Throws.TypeOf<BadInputException>().With.Message.StartsWith("sample.trace: "), $"bit {bit}");
        }
    }

    [Test]
    public void DamageNamesItsPlace()
    {
        byte[] file = Samples.WriteBlocks(3, 20, Samples.End);
        (int start, _, _) = RawFile.Blocks(file).ElementAt(2);
        file[start + Frame.Size + 5] ^= 1;
        Assert.That(() => Samples.Load(file),
            Throws.TypeOf<BadInputException>().With.Message.EqualTo($"sample.trace: damaged at byte {start} (block 2): wrong checksum of the block's payload"));
    }

    [Test]
    public void ABlockThatIsMissingIsNoticed()
    {
        byte[] file = Samples.WriteBlocks(3, 20, Samples.End);
        (int start, int end, _) = RawFile.Blocks(file).ElementAt(2);
        Assert.That(() => Samples.Load([.. file[..start], .. file[end..]]),
            Throws.TypeOf<BadInputException>().With.Message.Contains("block number 3; expected 2"));
    }

    [Test]
    public void DataBehindTheFooterIsNoticed()
    {
        byte[] file = Samples.WriteBlocks(1, 20, Samples.End);
        Assert.That(() => Samples.Load([.. file, 1]), Throws.TypeOf<BadInputException>().With.Message.Contains("behind the footer"));
    }

    [Test]
    public void NewerVersionIsOneClearLine()
    {
        byte[] file = Samples.WriteBlocks(1, 5, Samples.End);
        file[8] = 2;
        Assert.That(() => Samples.Load(file), Throws.TypeOf<BadInputException>()
            .With.Message.EqualTo("sample.trace: trace format version 2 is newer than this program, which reads version 1"));
    }

    [Test]
    public void OtherFilesAreNotTraces([Values("", "x", "#!/bin/sh\necho hello, this is no trace\n")] string text) =>
        Assert.That(() => Samples.Load(System.Text.Encoding.ASCII.GetBytes(text)),
            Throws.TypeOf<BadInputException>().With.Message.StartsWith("sample.trace: not a trace"));

    [Test]
    public void MissingFilesAndFoldersAreOneLine([Values("/no/such.trace", "/")] string path) =>
        Assert.That(() => Trace.Load(path), Throws.TypeOf<BadInputException>().With.Message.StartsWith(path + ": cannot read"));

    [Test]
    public void UnknownKindsOfBlocksAreSkipped()
    {
        byte[] file = Samples.WriteBlocks(1, 5, end: null);
        using var stream = new MemoryStream();
        stream.Write(file);
        stream.Write(RawFile.Framed((BlockKind)200, 2, [1, 2, 3]));
        Trace trace = Samples.Load(stream.ToArray());
        Assert.That(trace.Faults, Has.Length.EqualTo(5));
        Assert.That(trace.IncompleteReason, Does.Contain("before its footer"));
    }

    [Test]
    public void AbsurdLengthsAreRefusedBeforeMemoryIsTaken()
    {
        byte[] file = Samples.WriteBlocks(1, 5, end: null);
        using var compressor = new Compressor();
        byte[] bomb = compressor.Wrap(new byte[64 << 20]).ToArray();
        byte[] frame = new byte[Frame.Size];
        new Frame(BlockKind.Faults, Codec.Zstd, 2, bomb.Length, 1000, Crc32.HashToUInt32(bomb)).Write(frame);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.That(() => Samples.Load([.. file, .. frame, .. bomb]), Throws.TypeOf<BadInputException>().With.Message.Contains("1000 bytes promised"));
        new Frame(BlockKind.Faults, Codec.Zstd, 2, int.MaxValue, int.MaxValue, 0).Write(frame);
        Assert.That(() => Samples.Load([.. file, .. frame]), Throws.TypeOf<BadInputException>().With.Message.Contains("at most 16777216"));
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(2 << 20));
    }

    [Test]
    public void GarbageNeverGivesAnotherException()
    {
        byte[] file = [.. Samples.WriteBlocks(3, 20, Samples.End)];
        var random = new Random(20261123);
        for (int round = 0; round < 3000; round++)
            LoadOrBadInput(Mutate(file, random), round);
    }

    /// <summary>With right checksums the garbage gets as far as the parsers.</summary>
    [Test]
    public void GarbageWithRightChecksumsNeverGivesAnotherException()
    {
        byte[] file = Samples.Write(Samples.Header(areaPages: 64), Samples.Faults(30, areaPages: 64), Samples.EveryEvent(), Samples.End);
        var random = new Random(42);
        int loaded = 0;
        for (int round = 0; round < 5000; round++)
        {
            using var stream = new MemoryStream();
            stream.Write(file.AsSpan(0, FilePrefix.Size));
            uint sequence = 0;
            foreach ((int start, int end, BlockKind kind) in RawFile.Blocks(file))
            {
                byte[] payload = RawFile.Unpacked(file.AsSpan(start, end - start));
                if (random.Next(3) == 0)
                    payload = Mutate(payload, random);
                stream.Write(RawFile.Framed(kind, sequence++, payload));
            }
            loaded += LoadOrBadInput(stream.ToArray(), round) ? 1 : 0;
        }
        Assert.That(loaded, Is.InRange(100, 4900), "mutations should neither all be harmless nor all be fatal");
    }

    private static bool LoadOrBadInput(byte[] file, int round)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        try
        {
            Trace trace = Samples.Load(file);
            trace.FirstTouches();
            return true;
        }
        catch (BadInputException e)
        {
            Assert.That(e.Message, Does.StartWith("sample.trace: ").And.Not.Contain("\n"));
            return false;
        }
        catch (Exception e)
        {
            Assert.Fail($"round {round}: {e}");
            throw;
        }
        finally
        {
            Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(32 << 20), $"memory in round {round}");
        }
    }

    private static byte[] Mutate(byte[] bytes, Random random)
    {
        var mutated = new List<byte>(bytes);
        for (int change = random.Next(1, 5); change > 0 && mutated.Count > 0; change--)
        {
            int at = random.Next(mutated.Count);
            switch (random.Next(5))
            {
                case 0:
                    mutated[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    mutated[at] = (byte)random.Next(256);
                    break;
                case 2:
                    mutated.RemoveRange(at, Math.Min(random.Next(1, 40), mutated.Count - at));
                    break;
                case 3:
                    mutated.InsertRange(at, mutated.GetRange(at, Math.Min(random.Next(1, 40), mutated.Count - at)));
                    break;
                case 4:
                    mutated.InsertRange(at, Enumerable.Repeat((byte)0xFF, random.Next(1, 12)));
                    break;
            }
        }
        return [.. mutated];
    }
}
