using System.Diagnostics;
using NUnit.Framework;

namespace Testbed.Cli.Tests;

/// <summary>
/// The launcher, in a checkout of its own in which a build takes no time: the compiler there makes a daemon that prints the sources which
/// it was made of. Whatever happens to the sources, what runs must be made of them as they are.
/// </summary>
public sealed class LauncherTests
{
    private const string Compiler = """
        #!/bin/bash
        cd "$(dirname "$0")/.."
        echo "$*" >>calls
        case "$*" in
            --list-sdks) echo "10.0.100 [there]" ;;
            publish\ *)
                while [[ $1 != -o ]]; do shift; done
                mkdir -p "$2"
                { echo '#!/bin/sh'; echo "echo '$(cat $(find engine -name '*.cs' | sort))'"; } >"$2/testbed"
                chmod +x "$2/testbed"
                touch "$2/testbed.dll"
                [[ ! -e during ]] || { bash during; rm during; }
                ;;
            *) echo "the program: ${*:2}" ;;
        esac
        """;

    private DirectoryInfo _folder = null!;

    [SetUp]
    public void Make_a_checkout()
    {
        _folder = Directory.CreateTempSubdirectory("testbed-launcher-");
        foreach (string folder in (string[])["engine/Core", "scenarios", "reports", "tools"])
            _ = _folder.CreateSubdirectory(folder);
        foreach (string file in (string[])["Directory.Build.props", "Directory.Packages.props", "global.json"])
            File.WriteAllText(In(file), "");
        File.Copy(Path.Combine(TestbedProgram.Root, "testbed"), In("testbed"));
        File.WriteAllText(In("tools/dotnet"), Compiler);
        File.WriteAllText(In("engine/A.cs"), "a1");
        File.WriteAllText(In("engine/Core/B.cs"), "b1");
        Sh("chmod +x tools/dotnet; git init -q . && git add testbed engine && git -c user.name=a -c user.email=a@b commit -qm one");
    }

    [TearDown]
    public void Remove() => _folder.Delete(recursive: true);

    [Test]
    public void Launcher_runs_no_old_daemon_whatever_happens_to_the_sources()
    {
        string[] changes =
        [
            "echo a2 >engine/A.cs",
            "touch -r engine/A.cs old; echo a3 >engine/A.cs; touch -r old engine/A.cs",
            "echo a4 >a; touch -d 2001-01-01 a; mv a engine/A.cs",
            "mkdir engine/New; echo n >engine/New/N.cs; touch -d 2001-01-01 engine/New/N.cs engine/New engine",
            "rm engine/New/N.cs",
            "mv engine/Core/B.cs engine/Core/Z.cs",
            "git checkout -qf . && rm -f engine/Core/Z.cs",
            "cp -p engine/Core/B.cs x; echo b2 >engine/Core/B.cs; touch -r x engine/Core/B.cs; rm x",
            "ln -sf ../../old engine/Core/C.cs; rm engine/Core/C.cs; echo c >engine/Core/C.cs",
        ];
        Assert.That(Start(), Is.EqualTo(Sources()));
        foreach (string change in changes)
        {
            Sh(change);
            Assert.That(Start(), Is.EqualTo(Sources()), change);
            Assert.That(Start(), Is.EqualTo(Sources()), change);
        }
        File.WriteAllText(In("engine/A.cs"), "a5");
        File.WriteAllText(In("during"), "echo a6 >engine/A.cs");
        _ = Start();
        Assert.That(Start(), Is.EqualTo(Sources()), "a change in the middle of a build");
    }

    [Test]
    public void Launcher_starts_nothing_but_the_daemon_when_nothing_changed()
    {
        _ = Start();
        string[] calls = Calls();
        Directory.CreateDirectory(In("reports/out"));
        _ = Start();
        for (int i = 0; i < 3; i++)
        {
            File.WriteAllText(In($"reports/out/{i}"), "a report is no source");
            Assert.That(Start(), Is.EqualTo(Sources()));
        }
        Sh($"ln -s {In("testbed")} elsewhere; cd /; {In("elsewhere")} lazy-pages >{In("said")}");
        Assert.That(File.ReadAllText(In("said")).Trim(), Is.EqualTo(Sources()), "by a link, from another folder");
        Assert.That(Start("-v4", "page-server"), Is.EqualTo(Sources()), "options may stand before the verb");
        Assert.That(Calls(), Is.EqualTo(calls), "nothing is built, and the runtime is not started");
        Assert.That(Start("lazy-pages", "--policy-file", "x.cs"), Is.EqualTo("the program: lazy-pages --policy-file x.cs"));
    }

    [Test]
    public void Launcher_builds_again_after_a_commit_for_results_name_it()
    {
        _ = Start();
        int calls = Calls().Length;
        Sh("git -c user.name=a -c user.email=a@b commit -q --allow-empty -m two");
        _ = Start();
        Assert.That(Calls(), Has.Length.GreaterThan(calls));
    }

    [Test]
    public void Install_needs_no_checkout_afterwards_and_the_next_one_replaces_it_whole()
    {
        MakeInstallable();
        string bin = In("to/bin/testbed");
        string before = Sources();
        Assert.That(Run(In("testbed"), "install", "--prefix", In("to")), Does.EndWith($"installed {bin}"));
        Sh("mkdir away; mv engine scenarios reports artifacts traces away");
        Assert.That(Run(bin, "lazy-pages"), Is.EqualTo(before));
        Assert.That(Run(bin, "-v4", "page-server"), Is.EqualTo(before));
        Assert.That(Run(bin, "replay", "x"), Is.EqualTo("the program: replay x"));
        Sh($"ln -s {bin} link; cd /; {In("link")} lazy-pages >{In("said")}");
        Assert.That(File.ReadAllText(In("said")).Trim(), Is.EqualTo(before), "by a link");
        Assert.That(Directory.GetFiles(In("to/lib/testbed/current/traces")).Select(Path.GetFileName), Is.EqualTo((string[])["a.trace"]), "what scenarios name");
        Sh("mv away/* .; echo new >engine/A.cs; mkdir to/lib/testbed/.new-cut-off");
        _ = Run(In("testbed"), "install", $"--prefix={In("to")}");
        Assert.That(Run(bin, "lazy-pages"), Is.EqualTo(Sources()).And.Not.EqualTo(before));
        string[] left = [.. Directory.GetFileSystemEntries(In("to/lib/testbed")).Select(e => Path.GetFileName(e)!)];
        Assert.That(left, Has.Length.EqualTo(3).And.Some.EqualTo(".lock").And.Some.EqualTo("current"), "the link, one release, and nothing that was cut off");
    }

    [TestCase("", "--prefix DIR is missing")]
    [TestCase("--prefix", "missing argument")]
    [TestCase("--prefix {to} --fast", "unknown argument --fast")]
    [TestCase("--prefix {file}", "not a directory")]
    [TestCase("--prefix {file}/below", "not a directory")]
    [TestCase("--prefix /proc/self", "expected a --prefix that you may write to")]
    [TestCase("--prefix /sys", "expected a --prefix that you may write to")]
    [TestCase("--prefix {foreign}", "something else is there")]
    public void Install_refuses_in_one_line_and_writes_nothing(string arguments, string said)
    {
        MakeInstallable();
        Sh("mkdir -p foreign/bin; echo theirs >foreign/bin/testbed");
        string[] words = [.. arguments.Split(' ', StringSplitOptions.RemoveEmptyEntries)
            .Select(w => w.Replace("{to}", In("to")).Replace("{file}", In("global.json")).Replace("{foreign}", In("foreign")))];
        string errors = Run(In("testbed"), 2, ["install", .. words]);
        Assert.That(errors, Does.StartWith("testbed: install: ").And.Contain(said).And.Not.Contain("\n"));
        Assert.That(File.Exists(In("calls")), Is.False, "said before anything is built");
        Assert.That(Directory.Exists(In("to")), Is.False);
        Assert.That(File.ReadAllText(In("foreign/bin/testbed")), Is.EqualTo("theirs\n"));
    }

    private void MakeInstallable()
    {
        Sh("mkdir -p traces scenarios/setup scenarios/calibrations scenarios/migrations scenarios/workloads; touch LICENSE traces/a.trace traces/b.trace");
        File.WriteAllText(In("scenarios/a.json"), """{ "trace": "../traces/a.trace" }""");
        File.Copy(Path.Combine(TestbedProgram.Root, "scenarios", "setup", "install.sh"), In("scenarios/setup/install.sh"));
    }

    private string In(string file) => Path.Combine(_folder.FullName, file);

    private string[] Calls() => File.ReadAllLines(In("calls"));

    private string Sources()
    {
        Sh("cat $(find engine -name '*.cs' | sort) >all");
        return File.ReadAllText(In("all")).Trim();
    }

    private string Start(params string[] arguments) => Run(In("testbed"), arguments.Length == 0 ? ["lazy-pages"] : arguments);

    private void Sh(string script) => Run("bash", "-ec", script);

    private string Run(string program, params string[] arguments) => Run(program, 0, arguments);

    /// <returns>What it printed; if it is to fail, its errors.</returns>
    private string Run(string program, int exitCode, string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { WorkingDirectory = _folder.FullName, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["PATH"] = $"{In("tools")}:{Environment.GetEnvironmentVariable("PATH")}";
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.That(process.ExitCode, Is.EqualTo(exitCode), errors.Result);
        return (exitCode == 0 ? output : errors.Result).Trim();
    }
}
