using System.Net.Sockets;
using Mono.Unix.Native;
using Testbed.Core;

namespace Testbed.PageXfer.Protocol;

/// <summary>Pairs of connected sockets inside this process: nobody else can reach them, for they have no address.</summary>
internal static class LocalSockets
{
    // As much as a TCP connection on this machine takes in: less, and the server of an emulated link would wait for the client.
    private const int BufferBytes = 4 << 20;
    private const int SocketLevel = 1, SendBufferForce = 32;

    /// <summary>Two ends of a connection.</summary>
    /// <exception cref="BadInputException">There is no room for two descriptors.</exception>
    public static (Socket One, Socket Other) CreatePair()
    {
        if (Syscall.socketpair(UnixAddressFamily.AF_UNIX, UnixSocketType.SOCK_STREAM, UnixSocketFlags.SOCK_CLOEXEC, 0, out int one, out int other) != 0)
            throw new BadInputException($"socketpair: {Stdlib.GetLastError()}; room for two descriptors is expected");
        return (Prepare(one), Prepare(other));
    }

    /// <summary>Ends the wait of a thread in a socket of a pair.</summary>
    public static void Unblock(Socket socket)
    {
        try
        {
            if (IsLocal(socket))
                socket.Shutdown(SocketShutdown.Both);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // It has ended already.
        }
    }

    /// <summary>Whether it is one: the options of TCP do not exist for it, and nobody can be lost at its other end.</summary>
    public static bool IsLocal(Socket socket) => socket.AddressFamily == AddressFamily.Unix;

    private static Socket Prepare(int fd)
    {
        var socket = new Socket(new SafeSocketHandle(fd, ownsHandle: true));
        try
        {
            socket.SetRawSocketOption(SocketLevel, SendBufferForce, BitConverter.GetBytes(BufferBytes));
        }
        catch (SocketException)
        {
            // Not as root: what everybody may have.
            socket.SendBufferSize = BufferBytes;
        }
        return socket;
    }
}
