using System.Net.Sockets;
using Testbed.Core;
using Testbed.Uffd.Interop;

namespace Testbed.Uffd;

/// <summary>
/// The socket by which <c>criu restore --lazy-pages</c> hands over the userfaultfds of the processes that it restores, and tells when they
/// run. Checked against CRIU 4.2; it names no version, so each word is checked for sense.
/// </summary>
public sealed class RestoreSocket : IDisposable
{
    /// <summary>Its name in the work directory.</summary>
    public const string FileName = "lazy-pages.socket";

    private const uint RestoreFinished = 0x52535446;
    private const int LookForCancel = 100;

    private readonly Socket _listener;
    private readonly int _directory;
    private Socket? _restorer;

    private RestoreSocket(Socket listener, int directory) => (_listener, _directory) = (listener, directory);

    /// <summary>Listens; a stale socket is replaced.</summary>
    /// <exception cref="BadInputException">It cannot be made there.</exception>
    public static RestoreSocket Listen(string directory)
    {
        // Through a descriptor, for a socket's path may be 107 bytes long only.
        int fd = Native.Open(directory, Native.Fcntl.O_RDONLY | Native.Fcntl.O_CLOEXEC);
        string path = $"/proc/self/fd/{fd}/{FileName}";
        var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            File.Delete(path);
            AskForSenders(listener);
            listener.Bind(new UnixDomainSocketEndPoint(path));
            listener.Listen(10);
            return new RestoreSocket(listener, fd);
        }
        catch (Exception e) when (e is SocketException or IOException or UnauthorizedAccessException)
        {
            listener.Dispose();
            _ = Native.Close(fd);
            throw new BadInputException($"{Path.Combine(directory, FileName)}: cannot be made ({e.Message}); expected a work directory that can be written", e);
        }
    }

    /// <summary>Waits for the one restorer; from then on there is no socket to connect to.</summary>
    /// <exception cref="OperationCanceledException">Cancelled before.</exception>
    public void Accept(CancellationToken cancel)
    {
        Await(_listener, cancel);
        _restorer = _listener.Accept();
        AskForSenders(_restorer);
        _listener.Dispose();
    }

    /// <summary>From now on the kernel says with each message which process sent it. Newer kernels take the word of the
    /// listener for what comes
    /// over its connections; older ones add it by themselves to what was sent before the connection was
    /// accepted.</summary>
    private static unsafe void AskForSenders(Socket socket)
    {
        int on = 1;
        int fd = (int)socket.SafeHandle.DangerousGetHandle();
        _ = Native.SetSockOpt(fd, Native.Socket.SOL_SOCKET, Native.Socket.SO_PASSCRED, &on, sizeof(int));
    }

    /// <summary>Takes over the next process.</summary>
    /// <returns>Its pid, as in the images, its userfaultfd, whose features and areas the restorer sees to (null for a
    /// zombie, which has no
    /// memory), and its pid as this program sees it: each process sends its own. That is 0 when it is in no pid
    /// namespace below ours.</returns>
    /// <exception cref="BadInputException">The restorer gave up, or speaks another language.</exception>
    public unsafe (int Pid, UserFaultFd? Fd, int PidHere) ReceiveProcess(CancellationToken cancel)
    {
        int pid;
        ReadExactly(&pid, sizeof(int), null, "a process", cancel);
        if (pid == 0)
            throw new BadInputException("the restorer named process 0; expected a pid, or a negative one for a zombie");
        if (pid < 0)
            return (-pid, null, 0);
        // Exactly one byte: what follows belongs to the next process.
        byte data;
        Ancillary with = new() { Descriptor = -1 };
        ReadExactly(&data, 1, &with, $"the userfaultfd of process {pid}", cancel);
        return with.Descriptor >= 0 ? (pid, new UserFaultFd(with.Descriptor), with.Sender)
            : throw new BadInputException($"the restorer sent no descriptor for process {pid}; expected its userfaultfd");
    }

    /// <summary>Waits until all processes are restored and run.</summary>
    /// <param name="onTick">Called now and then; what it throws ends the wait.</param>
    /// <param name="cancel">Ends the wait too.</param>
    /// <exception cref="BadInputException">The restorer gave up, or said something else.</exception>
    public unsafe void AwaitFinished(Action onTick, CancellationToken cancel)
    {
        uint word;
        while (!IsReadable(_restorer!))
        {
            onTick();
            cancel.ThrowIfCancellationRequested();
        }
        ReadExactly(&word, sizeof(uint), null, "the end of the restore", cancel);
        if (word != RestoreFinished)
            throw new BadInputException($"the restorer said 0x{word:x8}; expected 0x{RestoreFinished:x8}, restore finished");
    }

    /// <summary>Takes no further word: the restorer is told when it says the next one.</summary>
    /// <returns>Whether it had said before that the processes run.</returns>
    public unsafe bool HangUp()
    {
        uint word = 0;
        _restorer!.Shutdown(SocketShutdown.Receive);
        return Native.Read((int)_restorer.SafeHandle.DangerousGetHandle(), &word, sizeof(uint)) == sizeof(uint) && word == RestoreFinished;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _listener.Dispose();
        _restorer?.Dispose();
        _ = Native.Close(_directory);
    }

    /// <summary>What came beside the bytes of a message.</summary>
    private struct Ancillary
    {
        public int Descriptor;
        public int Sender;
    }

    private unsafe void ReadExactly(void* target, int length, Ancillary* with, string what, CancellationToken cancel)
    {
        const int ControlBytes = 24 + 32; // CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))
        byte* control = stackalloc byte[ControlBytes];
        for (int got = 0; got < length;)
        {
            Await(_restorer!, cancel);
            Native.IoVec vector = new() { iov_base = (ulong)target + (ulong)got, iov_len = (ulong)(length - got) };
            Native.MsgHdr message = new() { msg_iov = (ulong)&vector, msg_iovlen = 1 };
            if (with is not null)
                (message.msg_control, message.msg_controllen) = ((ulong)control, ControlBytes);
            nint n = Native.RecvMsg((int)_restorer!.SafeHandle.DangerousGetHandle(), &message, Native.Socket.MSG_CMSG_CLOEXEC);
            if (n < 0 && Native.Errno is Native.E.EINTR or Native.E.EAGAIN)
                continue;
            if (n <= 0)
                throw new BadInputException($"the restorer closed the connection; expected {what}");
            got += (int)n;
            if (with is not null)
                Take(control, message.msg_controllen, with);
        }
    }

    private static unsafe void Take(byte* control, ulong length, Ancillary* with)
    {
        ulong head = (ulong)sizeof(Native.CmsgHdr);
        for (ulong at = 0; at + head + sizeof(int) <= length;)
        {
            var entry = (Native.CmsgHdr*)(control + at);
            if (entry->cmsg_len < head + sizeof(int))
                return;
            // The pid is the first field of struct ucred.
            int first = *(int*)(control + at + head);
            if (entry->cmsg_type == Native.Socket.SCM_RIGHTS)
                with->Descriptor = first;
            else if (entry->cmsg_type == Native.Socket.SCM_CREDENTIALS)
                with->Sender = first;
            at += (entry->cmsg_len + 7) & ~7ul;
        }
    }

    /// <summary>A signal that comes meanwhile ends nothing.</summary>
    private static void Await(Socket socket, CancellationToken cancel)
    {
        do
            cancel.ThrowIfCancellationRequested();
        while (!IsReadable(socket));
    }

    private static unsafe bool IsReadable(Socket socket)
    {
        Native.PollFd poll = new() { fd = (int)socket.SafeHandle.DangerousGetHandle(), events = Native.PollH.POLLIN };
        return Native.Poll(&poll, 1, LookForCancel) > 0;
    }
}
