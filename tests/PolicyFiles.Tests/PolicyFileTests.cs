using NUnit.Framework;
using Testbed.Core;
using Testbed.Policies;
using Testbed.PolicyFiles;
using Testbed.Replay;

namespace PolicyFiles.Tests;

/// <summary>Policies from outside: what compiles runs, and what does not says where.</summary>
[TestFixture]
public sealed class PolicyFileTests
{
    private DirectoryInfo _folder = null!;
    private static int s_number;

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("testbed-policy-");

    [TearDown]
    public void RemoveFolder() => _folder.Delete(recursive: true);

    private string Write(string text, string file = "MyPolicy.cs")
    {
        string path = Path.Combine(_folder.FullName, file);
        File.WriteAllText(path, text);
        return path;
    }

    /// <summary>A policy of a name that no other test has taken; OnFault begins in line 4.</summary>
    private static string Policy(string onFault, string members = "", string options = "", string? name = null) => $$"""
        [Policy("{{name ?? "outside-" + Interlocked.Increment(ref s_number)}}", "of a test")]
        public sealed class Outside({{options}}) : IPolicy
        { {{members}}
            public void OnFault(in PolicyFault fault, PageMap map, Plan plan) { {{onFault}} }
            public void OnIdle(PageMap map, Plan plan) { }
        }
        """;

    [Test]
    public void The_template_compiles_runs_and_moves_everything()
    {
        string path = Path.Combine(_folder.FullName, "BestPolicyEver.cs");
        Assert.That(PolicyFile.WriteTemplate(path), Is.EqualTo("best-policy-ever"));
        Assert.That(PolicyFile.Load(path), Is.EqualTo(new[] { "best-policy-ever" }));
        Assert.That(PolicyCatalog.Options("best-policy-ever").Select(o => $"{o.Name}={o.Default} {o.Range}"), Is.EqualTo(new[] { "max=32 0 to 65536", "background=True true or false" }));
        RunResult result = Run("best-policy-ever:max=4", [3, 5, 90]);
        Assert.That(result.Residency[^1].Pages, Is.EqualTo(100));
        Assert.That(result.Prefetch.Issued, Is.GreaterThan(0));
        Assert.That(Run("best-policy-ever:max=4", [3, 5, 90]).CommandHash, Is.EqualTo(result.CommandHash));
        Assert.That(() => PolicyFile.WriteTemplate(path), Throws.TypeOf<BadInputException>().With.Message.Contains("is there already"));
        Assert.That(() => PolicyFile.WriteTemplate(Path.Combine(_folder.FullName, "my policy.cs")), Throws.TypeOf<BadInputException>().With.Message.Contains("named like a class"));
    }

    [Test]
    public void An_outside_policy_combines_with_others()
    {
        PolicyFile.Load(Write(Policy("plan.Add(fault.Index + 1, n, Cause.Prefetch);", options: "[PolicyOption(\"pages\", Min = 1, Max = 9)] int n = 2", name: "mine")));
        Assert.That(Run("mine:n=3 limit 2 + hot-first", [90]).Prefetch.Issued, Is.EqualTo(2));
        Assert.That(() => PolicyCatalog.Parse("mine:n=10"), Throws.TypeOf<BadInputException>().With.Message.Contains("n=10; expected 1 to 9"));
        Assert.That(() => PolicyFile.Load(Write(Policy("", name: "mine"))), Throws.TypeOf<BadInputException>().With.Message.Contains("there is one of this name already"));
        Assert.That(() => PolicyFile.Load(Write(Policy("", name: "leap"))), Throws.TypeOf<BadInputException>().With.Message.Contains("policy \"leap\""));
    }

    [TestCase("int x = 1", "MyPolicy.cs(4,83): error CS1002: ; expected")]
    [TestCase("plan.Ad(1, 2, Cause.Prefetch);", "MyPolicy.cs(4,78): error CS1061: 'Plan' does not contain a definition for 'Ad'")]
    [TestCase("_ = DateTime.Now;", "MyPolicy.cs(4,86): error: System.DateTime.Now: a policy has no clock")]
    [TestCase("_ = new Random().Next();", "error: new Random() without a seed: a policy has no clock")]
    [TestCase("Random r = new(); _ = r.Next();", "error: new Random() without a seed")]
    [TestCase("_ = Random.Shared.Next();", "error: System.Random.Shared")]
    [TestCase("_ = System.Diagnostics.Stopwatch.GetTimestamp();", "error: System.Diagnostics.Stopwatch")]
    [TestCase("_ = HashCode.Combine(1, 2);", "error: System.HashCode")]
    [TestCase("System.Threading.Thread.Sleep(1);", "error: System.Threading.Thread")]
    [TestCase("s_x++; } private static int s_x; void F() {", "error: static s_x: the state of a policy belongs to its object")]
    public void Errors_say_where(string onFault, string message)
    {
        BadInputException e = Assert.Throws<BadInputException>(() => PolicyFile.Load(Write(Policy(onFault))))!;
        Assert.That(e.Message, Does.Contain(message));
        Assert.That(e.Message.Split('\n'), Is.All.Contains("MyPolicy.cs("));
    }

    [Test]
    public void Each_error_is_a_line_up_to_ten()
    {
        BadInputException e = Assert.Throws<BadInputException>(() => PolicyFile.Load(Write(Policy(string.Concat(Enumerable.Repeat("Nope();\n", 14))))))!;
        Assert.That(e.Message.Split('\n'), Has.Length.EqualTo(11));
        Assert.That(e.Message, Does.EndWith("MyPolicy.cs: and 4 more errors"));
    }

    [Test]
    public void Seeded_chance_constants_and_linq_are_allowed()
    {
        string path = Write(Policy(
            "plan.Add(Steps.Where(s => s > 0).Max() + _random.Next(3), 1, Cause.Prefetch);",
            "private static readonly int[] Steps = [1, 2]; private const int Two = 2; private readonly Random _random = new((int)environment.Seed);",
            "PolicyEnvironment environment, int two = 2, double share = 0.5, Cause cause = Cause.Prefetch"));
        string name = PolicyFile.Load(path)[0];
        RunResult first = Run(name, [1, 2, 3]), second = Run(name, [1, 2, 3]);
        Assert.That(second.CommandHash, Is.EqualTo(first.CommandHash));
    }

    [Test]
    public void What_is_thrown_is_bad_input_with_its_line()
    {
        string path = Write(Policy("_ = map[fault.Index + 1_000_000];"));
        string name = PolicyFile.Load(path)[0];
        BadInputException e = Assert.Throws<BadInputException>(() => Run(name, [1]))!;
        Assert.That(e.Message, Does.StartWith($"{path}(4): policy {name} threw IndexOutOfRangeException"));
        string second = PolicyFile.Load(Write(Policy("", "private readonly int _x = 1 / zero;", "int zero = 0"), "Second.cs"))[0];
        Assert.That(() => Run(second, [1]), Throws.TypeOf<BadInputException>().With.Message.Contains("Second.cs(3)").And.Message.Contains("DivideByZeroException"));
    }

    [TestCase("public sealed class Nothing { }", "no policy in it")]
    [TestCase("[Policy(\"x1\", \"\")] public sealed class X { }", "policy class X: does not implement IPolicy")]
    [TestCase("[Policy(\"X 1\", \"\")] public sealed class X : IPolicy { public void OnFault(in PolicyFault f, PageMap m, Plan p) { } public void OnIdle(PageMap m, Plan p) { } }", "is named \"X 1\"")]
    [TestCase("[Policy(\"x2\", \"\")] public sealed class X(string s = \"\") : IPolicy { public void OnFault(in PolicyFault f, PageMap m, Plan p) => _ = s; public void OnIdle(PageMap m, Plan p) { } }", "option s is of type String")]
    [TestCase("[Policy(\"x3\", \"\")] public sealed class X(int n) : IPolicy { public void OnFault(in PolicyFault f, PageMap m, Plan p) => _ = n; public void OnIdle(PageMap m, Plan p) { } }", "option n has no default")]
    public void What_is_no_policy_is_refused(string text, string message) => Assert.That(
        () => PolicyFile.Load(Write(text)), Throws.TypeOf<BadInputException>().With.Message.Contains(message).And.Message.Contains("MyPolicy.cs"));

    [TestCase("Missing.cs", "no such file")]
    [TestCase("Notes.txt", "expected a C# file (.cs) or a class library (.dll)")]
    [TestCase("Garbage.dll", "is no .NET assembly")]
    public void What_is_no_file_of_the_kind_is_refused(string file, string message)
    {
        if (file != "Missing.cs")
            Write("text", file);
        Assert.That(() => PolicyFile.Load(Path.Combine(_folder.FullName, file)), Throws.TypeOf<BadInputException>().With.Message.Contains(message));
    }

    [Test]
    public void A_class_library_is_loaded()
    {
        string library = Path.Combine(_folder.FullName, "Mine.dll");
        File.WriteAllBytes(library, PolicyCompiler.Compile("Mine.cs", Policy("plan.Add(fault.Index + 1, 1, Cause.Prefetch);", name: "of-a-library")));
        Assert.That(PolicyFile.Load(library), Is.EqualTo(new[] { "of-a-library" }));
        Assert.That(Run("of-a-library", [7]).Prefetch.Issued, Is.EqualTo(1));
    }

    private static RunResult Run(string policy, uint[] touches)
    {
        var image = new MemoryImage([new MemoryArea(new PageRange(new PageNumber(16), 100), "", 3)], [new PageRange(new PageNumber(16), 100)]);
        var thread = new TouchSequence(touches, [.. touches.Select(_ => 1000L)], new bool[touches.Length]);
        return Simulation.Run(new ReplayWorkload("test", image, [thread]), new ReplayOptions(PolicyCatalog.Parse(policy), new LinkParameters(ByteRate.FromBitsPerSecond(1e9), new Duration(1000)), "link"));
    }
}
