using System.Net;
using Google.Protobuf;
using NUnit.Framework;
using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Xfer;

namespace Testbed.Criu.Tests;

/// <summary>
/// What we write over a real dump restores with the real CRIU: every image that we know read and written again, and the
/// memory as the difference to parent images, sent through page-xfer. (CRIU itself makes such a difference only where
/// the kernel tracks changes.)
/// </summary>
[NonParallelizable]
public sealed class ParentTests
{
    private readonly RedisDump _dump = new();

    [SetUp]
    public void Start() => _dump.Start();

    [TearDown]
    public void Stop() => _dump.Stop();

    [TestCase(true, false, TestName = "A difference sent through our page server restores with CRIU")]
    [TestCase(false, false, TestName = "A difference sent through CRIU's page server restores with CRIU")]
    [TestCase(false, true, TestName = "A difference sent through CRIU's page server over TLS restores with CRIU")]
    public void Difference(bool ours, bool tls)
    {
        _dump.Dump([], []);
        DirectoryInfo next = _dump.Images.CreateSubdirectory("next");
        uint pid = (uint)_dump.Pid;
        using (PageReader whole = PageReader.Open(_dump.Images.FullName, PagemapId.Task(pid)))
        {
            foreach (FileInfo file in _dump.Images.GetFiles("*.img").Where(f => f.Name != $"pagemap-{pid}.img" && f.Name != $"pages-{whole.Pagemap.PagesId}.img"))
                file.CopyTo(Path.Combine(next.FullName, file.Name));
            Rewrite(next.FullName, pid);
            File.CreateSymbolicLink(Path.Combine(next.FullName, "parent"), "..");
            int port = ours ? _dump.Serve(next.FullName) : _dump.ServeByCriu(next.FullName, tls ? _dump.Tls("server") : []);
            using TlsCredentials? credentials = tls ? TlsCredentials.Load(_dump.Certificates("client")) : null;
            Send(whole, new IPEndPoint(IPAddress.Loopback, port), pid, credentials);
        }
        Outcome decoded = RealCriu.Run(RealCriu.Decoder, ["decode", "--pretty", "-i", Path.Combine(next.FullName, $"pagemap-{pid}.img")]);
        Assert.That(decoded.ExitCode, Is.Zero, decoded.Errors);
        Assert.That(decoded.Output, Does.Contain("\"PE_PARENT\"").And.Contain("PE_LAZY | PE_PRESENT"));
        using (PagesDirectory read = PagesDirectory.Open(next.FullName))
            Assert.That(read.Pages(pid).Pagemap.NeedsParent, Is.True);
        _dump.Restore(next.FullName);
    }

    /// <summary>Each image that we know, through our reader and writer.</summary>
    private static void Rewrite(string directory, uint pid)
    {
        Again(Path.Combine(directory, "inventory.img"), ImageMagic.Inventory, InventoryEntry.Parser);
        Again(Path.Combine(directory, "pstree.img"), ImageMagic.Pstree, PstreeEntry.Parser);
        Again(Path.Combine(directory, $"mm-{pid}.img"), ImageMagic.Mm, MmEntry.Parser);
        Again(Path.Combine(directory, $"ids-{pid}.img"), ImageMagic.Ids, KernelObjectIds.Parser);
        foreach (string core in Directory.GetFiles(directory, "core-*.img"))
            Again(core, ImageMagic.Core, CoreEntry.Parser);
    }

    private static void Again<T>(string path, uint magic, MessageParser<T> parser) where T : IMessage<T>
    {
        long length = new FileInfo(path).Length;
        ImageFile.Write(path, magic, [.. ImageFile.ReadAll(path, magic, parser).Cast<IMessage>()]);
        Assert.That(new FileInfo(path).Length, Is.EqualTo(length), $"{path}: fields that are not ours stay");
    }

    /// <summary>Of every run, pieces by turns as they are in the parent and anew.</summary>
    private static void Send(PageReader whole, EndPoint server, uint pid, TlsCredentials? tls)
    {
        using var sink = new RemotePageSink(server, PagemapId.Task(pid), tls);
        Assert.That(sink.HasParent, Is.True);
        int turn = 0;
        foreach (PagemapRun run in whole.Pagemap.Runs)
        {
            for (PageNumber at = run.Range.Start; at < run.Range.End;)
            {
                PageRange piece = run.Range.Intersect(new PageRange(at, 37));
                if (turn++ % 2 == 0)
                    sink.WritePagemap(piece, PagemapFlags.Parent);
                else
                {
                    var bytes = new byte[piece.Bytes];
                    whole.Read(piece, bytes);
                    sink.WritePagemap(piece, run.Flags);
                    sink.WritePages(bytes);
                }
                at = piece.End;
            }
        }
        sink.Complete();
    }
}
