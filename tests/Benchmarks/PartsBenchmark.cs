using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using BenchmarkDotNet.Attributes;
using Mono.Unix.Native;
using Testbed.Core;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Xfer;
using Testbed.Policies;
using Testbed.Uffd;

namespace Benchmarks;

/// <summary>The steps of a fault's way through the daemon, one by one: <c>-- --filter '*Parts*'</c>.</summary>
[InProcess]
[MemoryDiagnoser]
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public class PartsBenchmark : IPageReceiver, IServiceObserver
{
    private const int Pages = 65_536, Areas = 64;
    private static readonly PageNumber First = PageNumber.Of(0x10_0000_0000);

    private readonly byte[] _message = new byte[PageServerMessage.Size];
    private readonly byte[] _page = new byte[PageNumber.Size];
    private readonly PageNumber[] _order = new PageNumber[Pages];
    private FaultService _service = null!;
    private PageMap _map = null!;
    private PageLane _lane = null!;
    private Socket _server = null!;
    private UserFaultFd? _uffd;
    private nint _area, _content;

    /// <summary>Prepares all of them.</summary>
    [GlobalSetup]
    public void Setup()
    {
        for (int i = 0; i < Pages; i++)
            _order[i] = First + i;
        new Random(1).Shuffle(_order);
        using (var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp))
        {
            listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            listener.Listen(1);
            _lane = PageLane.Connect(listener.LocalEndPoint!);
            _server = listener.Accept();
            _server.NoDelay = true;
        }
        Restart();
        Register();
    }

    /// <summary>All pages are away, and none of the native ones is there.</summary>
    [IterationSetup]
    public void Restart()
    {
        _service = new FaultService(new TransferOptions { Lanes = 1 }, map => PolicyCatalog.Parse("demand").Create(new(map, [], 1)), this);
        const int Each = Pages / Areas;
        MemoryArea[] areas = [.. Enumerable.Range(0, Areas).Select(i => new MemoryArea(new PageRange(First + (i * Each), Each), "", 3))];
        _map = _service.AddSpace(0, new MemoryImage(areas, [.. areas.Select(a => a.Range)]));
        _service.Handle(new ServiceEvent(ServiceEventKind.LaneUp, Instant.Zero, 0, default));
        if (_uffd is not null)
            _ = madvise(_area, (nuint)Pages * PageNumber.Size, MadviseDontNeed);
    }

    /// <summary>A fault through the state machine: asked for, arrived, installed, resolved.</summary>
    [Benchmark(OperationsPerInvoke = Pages)]
    public void Fault()
    {
        for (int i = 0; i < Pages; i++)
        {
            PageRange page = PageRange.Single(_order[i]);
            var now = new Instant(i);
            int request = _service.Handle(new ServiceEvent(ServiceEventKind.Fault, now, 0, page))[0].Request;
            _service.Handle(new ServiceEvent(ServiceEventKind.Arrived, now, 0, page) { Request = request });
            _service.Handle(new ServiceEvent(ServiceEventKind.InstallOutcome, now, 0, page) { Request = request });
        }
    }

    /// <summary>The state of a page, in random order.</summary>
    [Benchmark(OperationsPerInvoke = Pages)]
    public int LookUp()
    {
        int lazy = 0;
        foreach (PageNumber page in _order)
        {
            if (_map.TryIndex(page, out long index) && _map[index] == PageState.Lazy)
                lazy++;
        }
        return lazy;
    }

    /// <summary>The next lazy pages, 16 at a time; the time is that of one page.</summary>
    [Benchmark(OperationsPerInvoke = Pages)]
    public long Scan()
    {
        long found = 0;
        for (long at = 0; (at = _map.NextLazy(at, Pages)) >= 0; at += 16)
            found += _map.LazyRun(at, Math.Min(Pages, at + 16));
        return found;
    }

    /// <summary>A request, written and read.</summary>
    [Benchmark(OperationsPerInvoke = Pages)]
    public ulong Message()
    {
        ulong sum = 0;
        foreach (PageNumber page in _order)
        {
            PageServerMessage.Get(1000, PageRange.Single(page)).Write(_message);
            sum += PageServerMessage.Read(_message).Address;
        }
        return sum;
    }

    /// <summary>A page over a lane, both ends on one thread: four system calls and the loopback device.</summary>
    [Benchmark(OperationsPerInvoke = Pages)]
    public void Lane()
    {
        foreach (PageNumber page in _order)
        {
            _lane.Request(0, 1000, PageRange.Single(page));
            _server.Receive(_message);
            PageServerMessage.Reply(1000, PageRange.Single(page)).Write(_message);
            _server.Send(_message);
            _server.Send(_page);
            while (_lane.Outstanding > 0)
                _lane.Receive(this);
        }
    }

    /// <summary>UFFDIO_COPY of single pages; nothing where userfaultfd is not allowed.</summary>
    [Benchmark(OperationsPerInvoke = Pages)]
    public void Install() => InstallAll(1);

    /// <summary>UFFDIO_COPY of 16 pages at a time; the time is that of one page.</summary>
    [Benchmark(OperationsPerInvoke = Pages)]
    public void InstallPart() => InstallAll(16);

    /// <summary>Ends what was begun.</summary>
    [GlobalCleanup]
    public void Cleanup()
    {
        _lane.Dispose();
        _server.Dispose();
        _uffd?.Dispose();
    }

    Span<byte> IPageReceiver.BufferFor(int tag, PageRange range) => _page;

    void IPageReceiver.Arrived(int tag, PageRange range) { }

    void IServiceObserver.OnRequested(Instant time, int space, PageRange range, Cause cause) { }

    void IServiceObserver.OnInstalled(in InstallRecord install) { }

    void IServiceObserver.OnResolved(in FaultRecord fault) { }

    private void InstallAll(int part)
    {
        PageNumber first = PageNumber.Of((ulong)_area);
        for (int i = 0; _uffd is not null && i < Pages; i += part)
        {
            if (_uffd.Copy(first + i, _content, part, out _) != CopyOutcome.Installed)
                throw new InvalidOperationException("a page is there already");
        }
    }

    /// <summary>Native memory of this process. Nobody touches it: only the kernel, to put pages there.</summary>
    private void Register()
    {
        int fd = (int)syscall(SyscallUserfaultfd, (int)(OpenFlags.O_CLOEXEC | OpenFlags.O_NONBLOCK));
        if (fd < 0)
            return;
        const MmapFlags Private = MmapFlags.MAP_PRIVATE | MmapFlags.MAP_ANONYMOUS;
        _area = Syscall.mmap(0, (ulong)Pages * PageNumber.Size, MmapProts.PROT_READ | MmapProts.PROT_WRITE, Private, -1, 0);
        _content = Syscall.mmap(0, 16 * PageNumber.Size, MmapProts.PROT_READ | MmapProts.PROT_WRITE, Private, -1, 0);
        Marshal.Copy(new byte[16 * PageNumber.Size], 0, _content, 16 * PageNumber.Size);
        _uffd = new UserFaultFd(fd);
        _uffd.Api(UffdFeatures.None);
        if (_uffd.Register(new PageRange(PageNumber.Of((ulong)_area), Pages)) != 0)
            throw new InvalidOperationException("the area cannot be registered");
    }

    private const long SyscallUserfaultfd = 323;
    private const int MadviseDontNeed = 4;

    [DllImport("libc", SetLastError = true)]
    private static extern long syscall(long number, int flags);

    [DllImport("libc", SetLastError = true)]
    private static extern int madvise(nint address, nuint length, int advice);
}
