using System.CommandLine;
using System.Net;
using System.Net.Sockets;
using Mono.Unix.Native;
using Testbed.Core;
using Testbed.PageXfer.Protocol;
using Testbed.PageXfer.Xfer;

namespace Testbed.Cli;

/// <summary>
/// The options that CRIU's own servers share, as scripts type them. As with CRIU, names of files are relative to the work
/// directory, which is the images directory unless said.
/// </summary>
internal sealed class CriuCommandLine
{
    private readonly Option<string> _images = new("--images-dir", "-D") { Description = "where the images are", DefaultValueFactory = _ => "." };
    private readonly Option<string?> _work = new("--work-dir", "-W") { Description = "where log, pid file and sockets are; default: the images directory" };
    private readonly Option<string?> _log = new("--log-file", "-o") { Description = "write the log to this file, - for standard output; default: standard error" };
    private readonly Option<int> _verbosity = new("--verbosity", "-v")
    {
        Description = "1 errors, 2 warnings (default), 3 what is done, with times, 4 all; also -v4; each v of -v or -vv is one more",
        DefaultValueFactory = _ => 2,
    };
    private readonly Option<string?> _pidFile = new("--pidfile") { Description = "write the process's pid to this file" };
    private readonly Option<int?> _statusFd = new("--status-fd") { Description = "write a zero byte to this descriptor when ready, and close it" };
    private readonly Option<bool> _daemon = new("--daemon", "-d") { Description = "go on in the background once ready" };
    private readonly Option<string?> _address = new("--address")
    {
        Description = "the page server's address or host name; where it listens: any IPv4 address, unless said; :: is any, IPv4 too",
    };
    private readonly Option<int> _port = new("--port") { Description = "the page server's port; where it listens, 0 is any free one, which the log names (-v3)" };
    private readonly Option<bool> _tls = new("--tls") { Description = "talk TLS to the other side, both with certificates" };
    private readonly Option<string?> _caCertificate = new("--tls-cacert")
    {
        Description = $"trust this authority alone (PEM); default: {TlsFiles.DefaultCaCertificate}, and to connect those of the system; a server needs one of the two",
    };
    private readonly Option<string?> _revoked = new("--tls-cacrl") { Description = $"certificates that were revoked (PEM); default: {TlsFiles.DefaultRevocationList} if it is there" };
    private readonly Option<string?> _certificate = new("--tls-cert") { Description = $"our certificate (PEM); default: {TlsFiles.DefaultCertificate}" };
    private readonly Option<string?> _key = new("--tls-key") { Description = $"its private key (PEM); default: {TlsFiles.DefaultKey}" };
    private readonly Option<bool> _anyName = new("--tls-no-cn-verify") { Description = "take a server's certificate whatever name it is for" };
    private readonly Option<int?> _socket = new("--ps-socket")
    {
        Description = "this descriptor is the connection to the other side; the server's may also be one that listens",
    };
    private readonly Option<string[]> _scripts = new("--action-script")
    {
        Description = "run this program when ready, with CRTOOLS_SCRIPT_ACTION=status-ready; may be given again",
        DefaultValueFactory = _ => [],
    };
    private readonly Option<string[]> _remarks = new(CriuArguments.Remark) { Hidden = true, DefaultValueFactory = _ => [] };

    /// <summary>Adds the options to a verb, behind its own.</summary>
    public void AddTo(Command command)
    {
        foreach (Option option in (Option[])
        [
            _address, _port, _socket, _images, _work, _log, _verbosity, _pidFile, _statusFd, _scripts, _daemon,
            _tls, _caCertificate, _revoked, _certificate, _key, _anyName, _remarks,
        ])
            command.Options.Add(option);
    }

    /// <summary>What was typed.</summary>
    /// <exception cref="BadInputException">A directory is not there, or the port is none.</exception>
    public CriuSettings Read(ParseResult parsed)
    {
        string images = Path.GetFullPath(parsed.GetRequiredValue(_images));
        string work = parsed.GetValue(_work) is { } typed ? Path.GetFullPath(typed) : images;
        foreach ((string name, string directory) in ((string, string)[])[("--images-dir", images), ("--work-dir", work)])
        {
            if (!Directory.Exists(directory))
                throw new BadInputException($"{name} {directory}: no such directory");
        }
        string? In(string? file) => file is null or "-" ? file : Path.Combine(work, file);
        int port = parsed.GetValue(_port);
        if (port is < 0 or > 65535)
            throw new BadInputException($"--port {port}: expected 0 to 65535");
        int? socket = parsed.GetValue(_socket);
        if (socket < 0 || (socket <= 2 && parsed.GetValue(_daemon)))
            throw new BadInputException($"--ps-socket {socket}: expected an open descriptor, with --daemon none of 0, 1 and 2");
        TlsFiles? tls = parsed.GetValue(_tls)
            ? new TlsFiles(In(parsed.GetValue(_caCertificate)), In(parsed.GetValue(_revoked)), In(parsed.GetValue(_certificate)), In(parsed.GetValue(_key)), !parsed.GetValue(_anyName))
            : null;
        return new CriuSettings(
            images, work, In(parsed.GetValue(_log)), parsed.GetValue(_verbosity), In(parsed.GetValue(_pidFile)),
            parsed.GetValue(_statusFd), parsed.GetValue(_daemon), parsed.GetValue(_address), port, tls)
        {
            SocketFd = socket,
            // As execvp has it: looked for in PATH when it is a bare name.
            Scripts = [.. parsed.GetRequiredValue(_scripts).Select(script => script.Contains('/') ? In(script)! : script)],
            Remarks = parsed.GetRequiredValue(_remarks),
        };
    }
}

/// <summary>What the shared options say; directories and files by their full names.</summary>
internal sealed record CriuSettings(
    string Images, string Work, string? LogFile, int Verbosity, string? PidFile, int? StatusFd, bool Daemon,
    string? Address, int Port, TlsFiles? Tls)
{
    /// <summary>--ps-socket: an inherited descriptor; null: none.</summary>
    public int? SocketFd { get; init; }

    /// <summary>Programs to run when ready.</summary>
    public IReadOnlyList<string> Scripts { get; init; } = [];

    /// <summary>What is to be said of the command line.</summary>
    public IReadOnlyList<string> Remarks { get; init; } = [];

    /// <summary>Where a server listens. Of a name's addresses an IPv4 one, if it has one.</summary>
    /// <exception cref="BadInputException">--address is no address, nor the name of one.</exception>
    public IPEndPoint ToListen()
    {
        if (Address is null)
            return new IPEndPoint(IPAddress.Any, Port);
        if (IPAddress.TryParse(Address, out IPAddress? address))
            return new IPEndPoint(address, Port);
        try
        {
            IPAddress[] all = Dns.GetHostAddresses(Address);
            IPAddress? first = Array.Find(all, one => one.AddressFamily == AddressFamily.InterNetwork);
            return new IPEndPoint(first ?? all[0], Port);
        }
        catch (Exception e) when (e is SocketException or ArgumentException or IndexOutOfRangeException)
        {
            throw new BadInputException($"--address {Address}: expected an IP address, or the name of one, to listen on ({e.Message})", e);
        }
    }

    /// <summary>What --ps-socket names; null when it was not given. To be called once.</summary>
    /// <exception cref="BadInputException">It is no socket.</exception>
    public Socket? TakeSocket()
    {
        if (SocketFd is not { } fd)
            return null;
        // Programs that we start have no copy, by which the other side would not see it end.
        _ = Syscall.fcntl(fd, FcntlCommand.F_SETFD, 1);
        try
        {
            return new Socket(new SafeSocketHandle(fd, ownsHandle: true)) { Blocking = true };
        }
        catch (Exception e) when (e is SocketException or ArgumentException)
        {
            throw new BadInputException($"--ps-socket {fd}: expected an open socket ({e.Message})", e);
        }
    }

    /// <summary>
    /// How a client comes to a connection: over --ps-socket, once; else, and whenever that is lost, to --address and
    /// --port.
    /// </summary>
    /// <param name="tls">For connections over TLS; null: plain ones.</param>
    /// <param name="inherits">Whether we have --ps-socket; the recovery process has no descriptor but its own.</param>
    /// <exception cref="BadInputException">None of these was given, or --ps-socket is no connection.</exception>
    public Func<PageLane> ToLanes(TlsCredentials? tls, bool inherits)
    {
        EndPoint? server = SocketFd is not null && (Address is null || Port == 0) ? null : ToConnect();
        Socket? inherited = inherits ? TakeSocket() : null;
        return () => Interlocked.Exchange(ref inherited, null) is { } socket ? PageLane.Over(socket, tls)
            : server is not null ? PageLane.Connect(server, tls)
            : throw new BadInputException(
                $"--ps-socket {SocketFd}: its one connection is in use or lost; expected --address and --port, too, for another one");
    }

    /// <summary>Where a client connects, by number or by name.</summary>
    /// <exception cref="BadInputException">--address or --port is missing.</exception>
    public EndPoint ToConnect() =>
        Address is null || Port == 0 ? throw new BadInputException("--page-server: expected --address and --port of the page server, too")
        : IPAddress.TryParse(Address, out IPAddress? address) ? new IPEndPoint(address, Port)
        : new DnsEndPoint(Address, Port);

    /// <summary>The certificates of --tls; null without it.</summary>
    /// <exception cref="BadInputException">One of their files cannot be used.</exception>
    public TlsCredentials? LoadTls() => Tls is null ? null : TlsCredentials.Load(Tls);
}
