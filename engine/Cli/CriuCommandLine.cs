using System.CommandLine;
using System.Globalization;
using System.Net;
using Testbed.Core;
using Testbed.PageXfer.Protocol;

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
        Description = "1 errors, 2 warnings (default), 3 what is done, with times, 4 all; also -vN and -vvv",
        DefaultValueFactory = _ => 2,
    };
    private readonly Option<string?> _pidFile = new("--pidfile") { Description = "write the process's pid to this file" };
    private readonly Option<int?> _statusFd = new("--status-fd") { Description = "write a zero byte to this descriptor when ready, and close it" };
    private readonly Option<bool> _daemon = new("--daemon", "-d") { Description = "go on in the background once ready" };
    private readonly Option<string?> _address = new("--address") { Description = "the page server's address; where it listens: any, unless said" };
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
    private readonly Option<bool> _noConfig = new("--no-default-config") { Description = "accepted; no configuration file is ever read" };

    /// <summary>Adds the options to a verb, behind its own.</summary>
    public void AddTo(Command command)
    {
        foreach (Option option in (Option[])
        [
            _address, _port, _images, _work, _log, _verbosity, _pidFile, _statusFd, _daemon,
            _tls, _caCertificate, _revoked, _certificate, _key, _anyName, _noConfig,
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
        TlsFiles? tls = parsed.GetValue(_tls)
            ? new TlsFiles(In(parsed.GetValue(_caCertificate)), In(parsed.GetValue(_revoked)), In(parsed.GetValue(_certificate)), In(parsed.GetValue(_key)), !parsed.GetValue(_anyName))
            : null;
        return new CriuSettings(
            images, work, In(parsed.GetValue(_log)), parsed.GetValue(_verbosity), In(parsed.GetValue(_pidFile)),
            parsed.GetValue(_statusFd), parsed.GetValue(_daemon), parsed.GetValue(_address), port, tls);
    }

    /// <summary>Spells -v, -vvv and -v4 as --verbosity=N, for their meaning is getopt's: the number is attached, or there is none.</summary>
    public static string[] Normalize(string[] args)
    {
        if (args is not ["page-server" or "lazy-pages", ..])
            return args;
        int count = 0;
        var normal = new List<string>();
        foreach (string arg in args)
        {
            if (arg.StartsWith("-v", StringComparison.Ordinal) && arg.AsSpan(2).IndexOfAnyExcept('v') < 0)
                count += arg.Length - 1;
            else if (arg.StartsWith("-v", StringComparison.Ordinal) && int.TryParse(arg.AsSpan(2), NumberStyles.None, CultureInfo.InvariantCulture, out int level))
                normal.Add($"--verbosity={level}");
            else
                normal.Add(arg);
        }
        if (count > 0)
            normal.Insert(1, $"--verbosity={count}");
        return [.. normal];
    }
}

/// <summary>What the shared options say; directories and files by their full names.</summary>
internal sealed record CriuSettings(
    string Images, string Work, string? LogFile, int Verbosity, string? PidFile, int? StatusFd, bool Daemon,
    string? Address, int Port, TlsFiles? Tls)
{
    /// <summary>Where a server listens.</summary>
    /// <exception cref="BadInputException">--address is no address.</exception>
    public IPEndPoint ToListen() => new(
        Address is null ? IPAddress.Any
        : IPAddress.TryParse(Address, out IPAddress? address) ? address
        : throw new BadInputException($"--address {Address}: expected an IP address to listen on"), Port);

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
