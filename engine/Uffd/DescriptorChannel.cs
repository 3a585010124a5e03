using System.Runtime.InteropServices;
using Testbed.Core;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>A word that came through a <see cref="DescriptorChannel"/>.</summary>
/// <param name="Kind">What it is about; 0 when the other side is gone.</param>
/// <param name="Value">A number with it.</param>
/// <param name="Descriptor">A descriptor with it, now open in this process, or -1.</param>
public readonly record struct ChannelMessage(char Kind, int Value, int Descriptor);

/// <summary>
/// A pair of connected sockets between two processes for short words and descriptors. A descriptor on its way is held by the
/// kernel: it outlives a sender that dies before the other side has looked. It is a stream, whose end is told after all that was sent: of the
/// other kinds of local sockets, one that is closed with words unread tells its peer of a reset first, and what it had sent is overlooked.
/// </summary>
public sealed unsafe class DescriptorChannel(int fd) : IDisposable
{
    private const ulong RightsLength = 20; // CMSG_LEN(sizeof(int))

    [StructLayout(LayoutKind.Sequential)]
    private struct Word
    {
        public int Kind;
        public int Value;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Rights
    {
        public Native.CmsgHdr Header;
        public int Descriptor;
        public int Padding;
    }

    /// <summary>Our end.</summary>
    public int Fd => fd;

    /// <summary>Two ends. Neither is inherited by programs that are started, unless asked for.</summary>
    public static (DescriptorChannel One, DescriptorChannel Other) Pair()
    {
        int* fds = stackalloc int[2];
        if (Native.SocketPair(Native.Socket.AF_UNIX, Native.Socket.SOCK_STREAM | Native.Fcntl.O_CLOEXEC, 0, fds) < 0)
            throw new BadInputException($"socketpair: {Native.Describe(Native.Errno)}; room for two descriptors is expected");
        return (new DescriptorChannel(fds[0]), new DescriptorChannel(fds[1]));
    }

    /// <summary>Sends a word, and a descriptor if there is one; waits for room.</summary>
    /// <returns>False when the other side is gone, or there was no room within <paramref name="patience"/>.</returns>
    public bool Send(char kind, int value, int descriptor, TimeSpan patience)
    {
        for (long end = Environment.TickCount64 + (long)patience.TotalMilliseconds; !Send(kind, value, descriptor);)
        {
            long left = end - Environment.TickCount64;
            if (Native.Errno is not (Native.E.EAGAIN or Native.E.EINTR) || left <= 0)
                return false;
            Native.PollFd poll = new() { fd = fd, events = Native.PollH.POLLOUT };
            _ = Native.Poll(&poll, 1, (int)left);
        }
        return true;
    }

    /// <summary>Sends a word, and a descriptor if there is one, without waiting.</summary>
    /// <returns>False when the other side is gone or does not listen.</returns>
    public bool Send(char kind, int value = 0, int descriptor = -1)
    {
        Word word = new() { Kind = kind, Value = value };
        Native.IoVec vector = new() { iov_base = (ulong)&word, iov_len = (ulong)sizeof(Word) };
        Rights rights = new()
        {
            Header = new() { cmsg_len = RightsLength, cmsg_level = Native.Socket.SOL_SOCKET, cmsg_type = Native.Socket.SCM_RIGHTS },
            Descriptor = descriptor,
        };
        Native.MsgHdr message = new() { msg_iov = (ulong)&vector, msg_iovlen = 1 };
        if (descriptor >= 0)
            (message.msg_control, message.msg_controllen) = ((ulong)&rights, (ulong)sizeof(Rights));
        return Native.SendMsg(fd, &message, Native.Socket.MSG_NOSIGNAL | Native.Socket.MSG_DONTWAIT) == sizeof(Word);
    }

    /// <summary>Waits for a word.</summary>
    /// <param name="limit">How long.</param>
    /// <param name="sender">A process with whose end the wait ends too, when it said nothing more; or null.</param>
    /// <returns>Null when the time was up first, or the sender has ended; one of kind 0 when the other side is gone.</returns>
    public ChannelMessage? Receive(TimeSpan limit, PidFd? sender = null)
    {
        Native.PollFd* polls = stackalloc Native.PollFd[2];
        polls[0] = new() { fd = fd, events = Native.PollH.POLLIN };
        polls[1] = new() { fd = sender?.Fd ?? -1, events = Native.PollH.POLLIN };
        int ready;
        do
            ready = Native.Poll(polls, 2, limit == Timeout.InfiniteTimeSpan ? -1 : (int)limit.TotalMilliseconds);
        while (ready < 0 && Native.Errno == Native.E.EINTR);
        // What the sender said last may have come between the two looks of one poll.
        if (ready > 0 && polls[0].revents == 0)
            ready = Native.Poll(polls, 1, 0);
        return ready <= 0 || polls[0].revents == 0 ? null : Read();
    }

    private ChannelMessage Read()
    {
        Word word = default;
        int descriptor = -1;
        for (int got = 0; got < sizeof(Word);)
        {
            Native.IoVec vector = new() { iov_base = (ulong)&word + (ulong)got, iov_len = (ulong)(sizeof(Word) - got) };
            Rights rights = default;
            Native.MsgHdr message = new() { msg_iov = (ulong)&vector, msg_iovlen = 1, msg_control = (ulong)&rights, msg_controllen = (ulong)sizeof(Rights) };
            nint n = Native.RecvMsg(fd, &message, Native.Socket.MSG_CMSG_CLOEXEC);
            // A reset is told once, and is not the end of what was sent.
            if (n < 0 && Native.Errno is Native.E.EINTR or Native.E.ECONNRESET)
                continue;
            if (n <= 0)
                return default;
            if (message.msg_controllen >= RightsLength)
                descriptor = rights.Descriptor;
            got += (int)n;
        }
        return new ChannelMessage((char)word.Kind, word.Value, descriptor);
    }

    /// <summary>Closes our end.</summary>
    public void Dispose()
    {
        int old = Interlocked.Exchange(ref fd, -1);
        if (old >= 0)
            _ = Native.Close(old);
    }
}
