namespace Testbed.Cli;

/// <summary>Whether an option has a value, as getopt_long knows it.</summary>
internal enum CriuArity
{
    /// <summary>It has none.</summary>
    None,

    /// <summary>It has none, and --no-NAME takes it back.</summary>
    Switch,

    /// <summary>It has one, in the same word or as the next one.</summary>
    Required,

    /// <summary>It may have one, in the same word only.</summary>
    Optional,
}

/// <summary>An option of CRIU's command line, whichever of its verbs it is for.</summary>
/// <param name="Name">The long name, without dashes.</param>
/// <param name="Arity">Whether it has a value.</param>
/// <param name="Short">Its letter; null when it has none.</param>
internal sealed record CriuOption(string Name, CriuArity Arity, char? Short = null)
{
    /// <summary>
    /// All that CRIU 4.2 takes, for any verb: scripts share options between verbs. Those that a verb of ours
    /// declares, under the same name, act there; the others are accepted.
    /// </summary>
    public static IReadOnlyList<CriuOption> All { get; } =
    [
        new("action-script", CriuArity.Required),
        new("address", CriuArity.Required),
        new("all", CriuArity.None),
        new("allow-uprobes", CriuArity.Switch),
        new("auto-dedup", CriuArity.Switch),
        new("cgroup-dump-controller", CriuArity.Required),
        new("cgroup-props", CriuArity.Required),
        new("cgroup-props-file", CriuArity.Required),
        new("cgroup-root", CriuArity.Required),
        new("cgroup-yard", CriuArity.Required),
        new("close", CriuArity.Required),
        new("config", CriuArity.Required),
        new("cpu-cap", CriuArity.Optional),
        new("daemon", CriuArity.Switch, 'd'),
        new("deprecated", CriuArity.Switch),
        new("display-stats", CriuArity.Switch),
        new("empty-ns", CriuArity.Required),
        new("enable-external-masters", CriuArity.None),
        new("enable-external-sharing", CriuArity.None),
        new("enable-fs", CriuArity.Required),
        new("evasive-devices", CriuArity.Switch),
        new("exec-cmd", CriuArity.None),
        new("experimental", CriuArity.Switch),
        new("ext-mount-map", CriuArity.Required, 'M'),
        new("ext-unix-sk", CriuArity.Optional, 'x'),
        new("external", CriuArity.Required),
        new("extra", CriuArity.Switch),
        new("feature", CriuArity.Required),
        new("file-locks", CriuArity.Switch, 'l'),
        new("file-validation", CriuArity.Required),
        new("force-irmap", CriuArity.Switch),
        new("freeze-cgroup", CriuArity.Required),
        new("ghost-fiemap", CriuArity.Switch),
        new("ghost-limit", CriuArity.Required),
        new("help", CriuArity.None, 'h'),
        new("images-dir", CriuArity.Required, 'D'),
        new("inherit-fd", CriuArity.Required),
        new("irmap-scan-path", CriuArity.Required),
        new("join-ns", CriuArity.Required, 'J'),
        new("lazy-pages", CriuArity.None),
        new("leave-running", CriuArity.None, 'R'),
        new("leave-stopped", CriuArity.None, 's'),
        new("libdir", CriuArity.Required, 'L'),
        new("link-remap", CriuArity.Switch),
        new("log-file", CriuArity.Required, 'o'),
        new("log-pid", CriuArity.Switch),
        new("lsm-mount-context", CriuArity.Required),
        new("lsm-profile", CriuArity.Required),
        new("manage-cgroups", CriuArity.Optional),
        new("mntns-compat-mode", CriuArity.Switch),
        new("ms", CriuArity.None),
        new("network-lock", CriuArity.Required),
        new("no-default-config", CriuArity.None),
        new("page-server", CriuArity.Switch),
        new("pidfile", CriuArity.Required),
        new("port", CriuArity.Required),
        new("pre-dump-mode", CriuArity.Required),
        new("prev-images-dir", CriuArity.Required),
        new("ps-socket", CriuArity.Required),
        // The same setting as --daemon, for another verb.
        new("restore-detached", CriuArity.Switch),
        new("restore-sibling", CriuArity.Switch, 'S'),
        new("root", CriuArity.Required, 'r'),
        new("shell-job", CriuArity.Switch, 'j'),
        new("skip-file-rwx-check", CriuArity.Switch),
        new("skip-in-flight", CriuArity.Switch),
        new("skip-mnt", CriuArity.Required),
        new("status-fd", CriuArity.Required),
        new("stream", CriuArity.Switch),
        new("tcp-close", CriuArity.Switch),
        new("tcp-established", CriuArity.Switch),
        new("timeout", CriuArity.Required),
        new("tls", CriuArity.Switch),
        new("tls-cacert", CriuArity.Required),
        new("tls-cacrl", CriuArity.Required),
        new("tls-cert", CriuArity.Required),
        new("tls-key", CriuArity.Required),
        new("tls-no-cn-verify", CriuArity.None),
        new("track-mem", CriuArity.Switch),
        new("tree", CriuArity.Required, 't'),
        new("unprivileged", CriuArity.Switch),
        new("verbosity", CriuArity.Optional, 'v'),
        new("version", CriuArity.None, 'V'),
        new("veth-pair", CriuArity.Required),
        new("weak-sysctls", CriuArity.Switch),
        new("work-dir", CriuArity.Required, 'W'),
    ];
}
