using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Testbed.Core;

namespace Testbed.Cli.Migration;

/// <summary>
/// Another machine, reached by ssh as root, with CRIU and this program on it. One connection carries all commands. Programs listen on all its
/// addresses, for our client comes from outside.
/// </summary>
internal sealed class SshHost : MigrationHost
{
    private readonly string _login, _control;
    private string? _directory;
    private int _pid;

    private SshHost(string login, string control, IPAddress address) : base(address) => (_login, _control) = (login, control);

    /// <summary>Connects.</summary>
    /// <param name="login">USER@HOST, as ssh takes it; what else ssh needs is in its own configuration.</param>
    /// <param name="cancel">Ends this, and whatever runs there later.</param>
    /// <exception cref="BadInputException">It cannot be reached, or has no address.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; nothing of it is left.</exception>
    public static SshHost Connect(string login, CancellationToken cancel)
    {
        string name = login[(login.LastIndexOf('@') + 1)..];
        // ssh may know the name from its configuration only.
        (int code, string configuration) = Execute(cancel, "ssh", "-G", login);
        if (code == 0 && configuration.Split('\n').FirstOrDefault(l => l.StartsWith("hostname ", StringComparison.Ordinal)) is { } line)
            name = line["hostname ".Length..].Trim();
        string control = Path.Combine(Directory.CreateTempSubdirectory("testbed-ssh-").FullName, "control");
        bool connected = false;
        try
        {
            IPAddress[] addresses = Dns.GetHostAddressesAsync(name, AddressFamily.InterNetwork, cancel).GetAwaiter().GetResult();
            var host = new SshHost(login, control, addresses[0]) { Cancel = cancel };
            (code, string output) = host.Run("id", "-u");
            if (code == 0 && output.Trim() == "0")
            {
                // It stays, and must not hold what we read of commands.
                _ = Execute(cancel, "sh", "-c", $"exec ssh -o BatchMode=yes -o ControlMaster=yes -o ControlPath={control} -f -N '{login}' >/dev/null 2>&1");
                connected = true;
                return host;
            }
            throw new BadInputException($"{login}: {(code == 0 ? $"user {output.Trim()}" : output.Trim().ReplaceLineEndings(" "))}; expected to be let in by ssh as root, without a question");
        }
        catch (SocketException e)
        {
            throw new BadInputException($"{login}: {name}: {e.Message}; expected a host with an address", e);
        }
        finally
        {
            if (!connected)
                Directory.Delete(Path.GetDirectoryName(control)!, recursive: true);
        }
    }

    public override IPAddress ClientAddress => Address;

    protected override IPAddress ListenAddress => IPAddress.Any;

    public override string[] Enter(IReadOnlyList<string> command) =>
    [
        "ssh", "-o", "BatchMode=yes", "-o", $"ControlPath={_control}", _login, "--",
        string.Join(' ', command.Select(Quote)),
    ];

    public override void Give(string directory, int pid)
    {
        (_directory, _pid) = (directory, pid);
        Pipe(["tar", "-C", directory, "-c", "."], Enter(["sh", "-c", $"mkdir -p '{directory}' && tar -C '{directory}' -x"]), directory, Cancel);
    }

    /// <summary>Sparse files stay sparse.</summary>
    public override void TakeFrom(MigrationHost other, string directory) =>
        Pipe(other.Enter(["tar", "-C", directory, "-S", "-c", "."]), Enter(["tar", "-C", directory, "-x"]), directory, Cancel);

    public override void Remove(string directory) => _ = Run("rm", "-rf", directory);

    /// <summary>What was started here is ended: the session of the program, and what has the directory in its command line.</summary>
    public override void Dispose()
    {
        if (_pid != 0)
            _ = Execute(CancellationToken.None, Enter(["sh", "-c", $"pkill -9 -s {_pid}; pkill -9 -f '[-]D {_directory}'{(Cancel.IsCancellationRequested ? $"; rm -rf '{_directory}'" : "")}"]));
        _ = Execute(CancellationToken.None, "ssh", "-o", $"ControlPath={_control}", "-O", "exit", _login);
        Directory.Delete(Path.GetDirectoryName(_control)!, recursive: true);
    }

    private static string Quote(string word) => "'" + word.Replace("'", "'\\''", StringComparison.Ordinal) + "'";

    private static void Pipe(string[] from, string[] to, string directory, CancellationToken cancel)
    {
        (int code, string output) = Execute(cancel, "bash", "-c", "set -o pipefail; " + string.Join(' ', from.Select(Quote)) + " | " + string.Join(' ', to.Select(Quote)));
        if (code != 0)
            throw new BadInputException($"{directory} could not be copied: {output.Trim().ReplaceLineEndings(" ")}; expected tar on all hosts, and room");
    }
}
