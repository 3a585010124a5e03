using System.CommandLine;
using NUnit.Framework;
using Testbed.Cli.Verbs;
using Testbed.Core;

namespace Testbed.Cli.Tests;

/// <summary>
/// The command lines and configuration files that CRIU takes, for the two verbs that take its places.
/// </summary>
[NonParallelizable]
public sealed class CriuArgumentsTests
{
    private static readonly string[] Variables = ["HOME", "CRIU_CONFIG_FILE"];

    private readonly Dictionary<string, string?> _before = [];
    private DirectoryInfo _folder = null!;

    [SetUp]
    public void HideConfigurationOfThisHost()
    {
        _folder = Directory.CreateTempSubdirectory("testbed-criu-arguments-");
        foreach (string variable in Variables)
            _before[variable] = Environment.GetEnvironmentVariable(variable);
        Environment.SetEnvironmentVariable("HOME", _folder.FullName);
        Environment.SetEnvironmentVariable("CRIU_CONFIG_FILE", null);
    }

    [TearDown]
    public void GiveItBack()
    {
        foreach (string variable in Variables)
            Environment.SetEnvironmentVariable(variable, _before[variable]);
        _folder.Delete(recursive: true);
    }

    [TestCase("lazy-pages -Dimages -oFILE", "lazy-pages --images-dir=images --log-file=FILE")]
    [TestCase("lazy-pages -D images --log-file=FILE", "lazy-pages --images-dir=images --log-file=FILE")]
    [TestCase("-D images lazy-pages -o FILE", "lazy-pages --images-dir=images --log-file=FILE")]
    [TestCase("-v4 --images-dir images -- lazy-pages", "lazy-pages --images-dir=images --verbosity=4")]
    [TestCase("page-server -dDimages", "page-server --daemon --images-dir=images")]
    [TestCase("page-server --restore-detached", "page-server --daemon")]
    [TestCase("page-server -d --no-daemon", "page-server")]
    [TestCase("page-server -D a -D b", "page-server --images-dir=b")]
    [TestCase("page-server --po 9876 --addr=::", "page-server --port=9876 --address=::")]
    [TestCase("lazy-pages --page-s --no-page-server", "lazy-pages")]
    [TestCase("lazy-pages --tls --tls-no", "lazy-pages --tls --tls-no-cn-verify")]
    [TestCase("lazy-pages --policy demand --policy-file a.cs --policy-file b.cs", "lazy-pages --policy=demand --policy-file=a.cs --policy-file=b.cs")]
    [TestCase("lazy-pages -v", "lazy-pages --verbosity=3")]
    [TestCase("lazy-pages -vv", "lazy-pages --verbosity=4")]
    [TestCase("lazy-pages -v -v", "lazy-pages --verbosity=4")]
    [TestCase("lazy-pages --verbosity", "lazy-pages --verbosity=3")]
    [TestCase("lazy-pages --verbosity=0", "lazy-pages --verbosity=0")]
    [TestCase("lazy-pages --verbosity 4", "lazy-pages --verbosity=4")]
    [TestCase("lazy-pages -v0", "lazy-pages --verbosity=0")]
    [TestCase("lazy-pages -o -", "lazy-pages --log-file=-")]
    [TestCase("lazy-pages -o --tls", "lazy-pages --log-file=--tls")]
    [TestCase("page-server --help", "page-server --help")]
    [TestCase("-D x -h page-server", "page-server --help")]
    public void Line_is_read_as_by_getopt_when_CRIU_takes_it(string typed, string expected) =>
        Assert.That(string.Join(' ', Read(typed.Split(' ')).Line), Is.EqualTo(expected));

    [TestCase("lazy-pages --tcp", "could be --tcp-close, --tcp-established")]
    [TestCase("lazy-pages --nope", "no such option")]
    [TestCase("lazy-pages -q", "no such option")]
    [TestCase("lazy-pages --", null)]
    [TestCase("lazy-pages --port", "--port: expected a value")]
    [TestCase("lazy-pages -D", "-D: expected a value")]
    [TestCase("lazy-pages --daemon=yes", "without a value")]
    [TestCase("lazy-pages --log-file=", "is empty")]
    [TestCase("lazy-pages more", "\"more\" is no option")]
    [TestCase("lazy-pages -vnoisy", "expected -v, -vvv or a number")]
    [TestCase("lazy-pages --remark=x", "no such option")]
    public void Line_is_refused_in_one_line_when_CRIU_refuses_it(string typed, string? says)
    {
        if (says is null)
            Assert.That(() => Read(typed.Split(' ')), Throws.Nothing);
        else
            Assert.That(() => Read(typed.Split(' ')), Throws.TypeOf<BadInputException>().With.Message.Contains(says).And.Message.Not.Contains("\n"));
    }

    [TestCase("record --pid 1 lazy-pages")]
    [TestCase("--help")]
    [TestCase("--version")]
    [TestCase("-v4")]
    public void Line_is_left_alone_when_it_is_for_another_verb(string typed) => Assert.That(CriuArguments.TryRead(Root(), typed.Split(' ')), Is.Null);

    /// <summary>What one script shares between dump, restore and our verbs.</summary>
    [TestCase("lazy-pages")]
    [TestCase("page-server")]
    public void Options_of_other_verbs_are_accepted_and_named_once(string verb)
    {
        CriuArguments read = Read([
            verb, "-t", "4711", "-j", "--tcp-established", "-l", "--timeout", "10", "--log-pid", "-L", "/lib", "--display-stats", "--stream", "-j",
            "--ext-unix-sk", "-x123", "--manage-cgroups=soft", "--cpu-cap", "--external", "mnt[]", "-R", "--ghost-limit=1M", "--no-track-mem",
        ]);
        Assert.That(read.Line, Is.EqualTo(new[]
        {
            verb, $"--remark=of no effect on {verb}: --cpu-cap, --display-stats, --ext-unix-sk, --external, --file-locks, --ghost-limit, --leave-running, --libdir, --log-pid, --manage-cgroups, --shell-job, --stream, --tcp-established, --timeout, --tree",
        }));
    }

    [Test]
    public void Every_option_is_taken_by_both_verbs()
    {
        foreach (string verb in (string[])["lazy-pages", "page-server"])
        {
            foreach (CriuOption option in CriuOption.All.Where(o => o.Name is not ("help" or "version")))
            {
                string value = option.Name is "close" ? "999999" : "1";
                Assert.That(() => Read([$"--{option.Name}" + (option.Arity == CriuArity.Required ? $"={value}" : ""), verb]), Throws.Nothing, option.Name);
                if (option.Short is { } letter)
                    Assert.That(() => Read([verb, $"-{letter}", .. option.Arity == CriuArity.Required ? (string[])[value] : []]), Throws.Nothing, option.Name);
                if (option.Arity == CriuArity.Switch)
                    Assert.That(() => Read([verb, $"--no-{option.Name}"]), Throws.Nothing, option.Name);
            }
        }
    }

    [Test]
    public void Version_is_CRIUs_first()
    {
        Assert.That(Read(["-V", "lazy-pages"]).AsksVersion, Is.True);
        Assert.That(TestbedProgram.Run("page-server", "--version").Output, Does.StartWith("Version: 4.2\n"));
    }

    [TestCase("log-file FILE", "--log-file=FILE")]
    [TestCase("  \t log-file\tFILE   # why", "--log-file=FILE")]
    [TestCase("log-file \"a b.log\" # why", "--log-file=a b.log")]
    [TestCase("log-file \"a \\\"b\\\".log\"", "--log-file=a \"b\".log")]
    [TestCase("log-file a#b", "--log-file=a")]
    [TestCase("daemon", "--daemon")]
    [TestCase("daemon   # in the background", "--daemon")]
    [TestCase("daemon yes", "--daemon")]
    [TestCase("verbosity 4", "--verbosity=4")]
    [TestCase("verbosity", "--verbosity=3")]
    [TestCase("log-f FILE", "--log-file=FILE")]
    [TestCase("# nothing\n\n   \ndaemon\nno-daemon\n", "")]
    [TestCase("log-file FILE\r", "--log-file=FILE")]
    public void Configuration_file_adds_its_options_when_it_is_as_CRIU_reads_it(string text, string expected)
    {
        File.WriteAllText(In("criu.conf"), text + "\n");
        Assert.That(Read(["page-server", "--config", In("criu.conf")]).Line[1..], Is.EqualTo(expected.Length == 0 ? [] : new[] { expected }));
    }

    [TestCase("log-file \"FILE", "line 1: a quote without its second one")]
    [TestCase("daemon\nlog-file \"a b\" c", "line 2: \"c\" behind the value")]
    [TestCase("log-file a b", "line 1: \"b\" behind the value")]
    [TestCase("log-file", "line 1: log-file: expected a value")]
    [TestCase("nope", "line 1: nope: no such option")]
    public void Configuration_file_is_refused_with_its_line(string text, string says)
    {
        File.WriteAllText(In("criu.conf"), text);
        Assert.That(() => Read(["lazy-pages", $"--config={In("criu.conf")}"]), Throws.TypeOf<BadInputException>().With.Message.EqualTo($"{In("criu.conf")}: {says}").Or.Message.StartsWith($"{In("criu.conf")}: {says}"));
    }

    [Test]
    public void Configuration_files_are_read_in_CRIUs_order()
    {
        Directory.CreateDirectory(In(".criu"));
        File.WriteAllText(In(".criu/default.conf"), "port 1\nlog-file user\nshell-job\n");
        File.WriteAllText(In("environment.conf"), "port 2\naddress environment\n");
        File.WriteAllText(In("named.conf"), "port 3\n");
        Assert.That(Read(["page-server"]).Line, Is.SupersetOf(new[] { "--port=1", "--log-file=user" }));
        Assert.That(Read(["page-server", "--no-default-config"]).Line, Is.EqualTo(new[] { "page-server" }));
        Environment.SetEnvironmentVariable("CRIU_CONFIG_FILE", In("environment.conf"));
        Assert.That(Read(["page-server", "--log-file=typed"]).Line, Is.SupersetOf(new[] { "--port=2", "--log-file=typed", "--address=environment" }));
        Assert.That(Read(["page-server", "--config", In("named.conf")]).Line, Is.EqualTo(new[] { "page-server", "--address=environment", "--port=3" }));
        Assert.That(Read(["page-server", "--port", "4"]).Line, Does.Contain("--port=4"));
        Environment.SetEnvironmentVariable("CRIU_CONFIG_FILE", In("nowhere"));
        Assert.That(Read(["page-server", "--no-default-config"]).Line, Has.Length.EqualTo(2).And.Some.Contains("nowhere: cannot be read"));
    }

    private static RootCommand Root() => new() { PageServerVerb.Create(), LazyPagesVerb.Create(), PoliciesVerb.Create() };

    private static CriuArguments Read(string[] typed) => CriuArguments.TryRead(Root(), typed)!;

    private string In(string file) => Path.Combine(_folder.FullName, file);
}
