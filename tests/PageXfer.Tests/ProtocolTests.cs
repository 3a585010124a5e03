using Testbed.Core;
using Testbed.PageXfer.Images;
using Testbed.PageXfer.Protocol;

namespace Testbed.PageXfer.Tests;

public sealed class ProtocolTests
{
    private static readonly PageRange TwoPages = new(new PageNumber(0x7f0123456), 2);
    private const string Tail = "00000000" + "0200000000000000" + "00604523017F0000";

    private static IEnumerable<TestCaseData> Golden()
    {
        var task = PagemapId.Task(0x1234);
        yield return new(PageServerMessage.Get(0x1234, TwoPages), "07000000" + Tail + "3412000000000000");
        yield return new(PageServerMessage.Reply(0x1234, TwoPages), "06000400" + Tail + "3412000000000000");
        yield return new(PageServerMessage.Add(task, TwoPages, PagemapFlags.Lazy | PagemapFlags.Present), "06000600" + Tail + "0134120000000000");
        yield return new(PageServerMessage.Add(task, TwoPages, PagemapFlags.Parent), "06000100" + Tail + "0134120000000000");
        string empty = new('0', 40);
        yield return new(PageServerMessage.About(PageServerCommand.Open2, task), "04000000" + empty + "0134120000000000");
        yield return new(PageServerMessage.About(PageServerCommand.Parent, new PagemapId(PagemapKind.Shmem, 9)), "05000000" + empty + "0209000000000000");
        yield return new(PageServerMessage.Plain(PageServerCommand.Close), "23100000" + empty + "0000000000000000");
        yield return new(PageServerMessage.Plain(PageServerCommand.ForceClose), "24100000" + empty + "0000000000000000");
    }

    [TestCaseSource(nameof(Golden))]
    public void GoldenBytes(PageServerMessage message, string expected)
    {
        var bytes = new byte[PageServerMessage.Size];
        bytes.AsSpan().Fill(0xee);
        message.Write(bytes);
        Assert.That(Convert.ToHexString(bytes), Is.EqualTo(expected));
        bytes.AsSpan(4, 4).Fill(0xcc);
        Assert.That(PageServerMessage.Read(bytes), Is.EqualTo(message), "padding does not count");
    }

    [TestCase(1u, PagemapKind.Task)]
    [TestCase(10u, PagemapKind.Task)]
    [TestCase(17u, PagemapKind.Task)]
    [TestCase(2u, PagemapKind.Shmem)]
    [TestCase(27u, PagemapKind.Shmem)]
    [TestCase(34u, PagemapKind.Shmem)]
    public void OldTypesAreUnderstood(uint type, PagemapKind kind)
    {
        var message = new PageServerMessage(PageServerCommand.Open2, PagemapFlags.None, 0, 0, 77ul << 8 | type);
        Assert.That(message.ToPagemap(), Is.EqualTo(new PagemapId(kind, 77)));
    }

    [Test]
    public void NonsenseIsRefused()
    {
        static PageServerMessage Message(ulong pages, ulong address, ulong target) =>
            new(PageServerCommand.Get, PagemapFlags.None, pages, address, target);
        Assert.Throws<BadInputException>(() => _ = Message(1, 1, 1).ToRange());
        Assert.Throws<BadInputException>(() => _ = Message(0, 0x1000, 1).ToRange());
        Assert.Throws<BadInputException>(() => _ = Message(ulong.MaxValue, 0x1000, 1).ToRange());
        Assert.Throws<BadInputException>(() => _ = Message(1, 0xfffffffffffff000, 1).ToRange());
        Assert.Throws<BadInputException>(() => _ = Message(1, 0x1000, 3).ToPagemap());
        Assert.Throws<BadInputException>(() => _ = Message(1, 0x1000, 1ul << 32).ToPid());
    }
}
