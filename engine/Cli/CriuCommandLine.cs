using System.CommandLine;
using System.Globalization;
using Testbed.Core;

namespace Testbed.Cli;

/// <summary>
/// The options that CRIU's own servers share, as scripts type them. As with CRIU, names of files are relative to the work
/// directory, which is the images directory unless said.
/// </summary>
internal sealed class CriuCommandLine
{
    private readonly Option<string> _images = new("--images-dir", "-D") { Description = "where the images are", DefaultValueFactory = _ => "." };
    private readonly Option<string?> _work = new("--work-dir", "-W") { Description = "where log, pid file and sockets are; default: the images directory" };
    private readonly Option<string?> _log = new("--log-file", "-o") { Description = "write the log to this file; default: standard error" };
    private readonly Option<int> _verbosity = new("--verbosity", "-v")
    {
        Description = "1 errors, 2 warnings (default), 3 what is done, 4 all; also -vN and -vvv",
        DefaultValueFactory = _ => 2,
    };
    private readonly Option<string?> _pidFile = new("--pidfile") { Description = "write the process's pid to this file" };
    private readonly Option<int?> _statusFd = new("--status-fd") { Description = "write a zero byte to this descriptor when ready, and close it" };
    private readonly Option<bool> _daemon = new("--daemon", "-d") { Description = "go on in the background once ready" };
    private readonly Option<bool> _noConfig = new("--no-default-config") { Description = "accepted; no configuration file is ever read" };

    /// <summary>Adds the options to a verb.</summary>
    public void AddTo(Command command)
    {
        foreach (Option option in (Option[])[_images, _work, _log, _verbosity, _pidFile, _statusFd, _daemon, _noConfig])
            command.Options.Add(option);
    }

    /// <summary>What was typed.</summary>
    public CriuSettings Read(ParseResult parsed)
    {
        string images = Path.GetFullPath(parsed.GetRequiredValue(_images));
        string work = parsed.GetValue(_work) is { } typed ? Path.GetFullPath(typed) : images;
        foreach ((string name, string directory) in ((string, string)[])[("--images-dir", images), ("--work-dir", work)])
        {
            if (!Directory.Exists(directory))
                throw new BadInputException($"{name} {directory}: no such directory");
        }
        string? In(string? file) => file is null ? null : Path.Combine(work, file);
        return new CriuSettings(
            images, work, In(parsed.GetValue(_log)), parsed.GetValue(_verbosity), In(parsed.GetValue(_pidFile)),
            parsed.GetValue(_statusFd), parsed.GetValue(_daemon));
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
    string Images, string Work, string? LogFile, int Verbosity, string? PidFile, int? StatusFd, bool Daemon);
