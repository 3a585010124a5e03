using System.Text.RegularExpressions;
using NUnit.Framework;
using Testbed.Cli;

namespace Testbed.Criu.Tests;

/// <summary>The table of CRIU's options, against the CRIU that is installed.</summary>
public sealed partial class SameOptionsTests
{
    [OneTimeSetUp]
    public void RequireCriu()
    {
        if (!File.Exists(RealCriu.Program))
            Assert.Ignore("SKIPPED: CRIU is not set up; run: sh scenarios/setup/criu.sh");
    }

    /// <summary>It says of each option that is misused what it expected, and of others that it knows none.</summary>
    [Test]
    public void Table_agrees_with_the_real_CRIU_on_every_option_and_its_value()
    {
        Assert.Multiple(() =>
        {
            foreach (CriuOption option in CriuOption.All.Where(o => o.Name is not ("help" or "version")))
            {
                string misused = option.Arity is CriuArity.Required ? $"--{option.Name}" : $"--{option.Name}=x";
                Assert.That(Said(misused), option.Arity switch
                {
                    CriuArity.Required => Does.Contain("requires an argument"),
                    CriuArity.Optional => Does.Not.Contain($"option '--{option.Name}"),
                    _ => Does.Contain("doesn't allow an argument"),
                }, misused);
                if (option.Arity is CriuArity.Switch or CriuArity.None)
                    Assert.That(Said($"--no-{option.Name}=x").Contains($"'--no-{option.Name}' doesn't", StringComparison.Ordinal), Is.EqualTo(option.Arity == CriuArity.Switch), option.Name);
            }
        });
    }

    [Test]
    public void Table_has_every_option_that_the_real_CRIUs_help_names()
    {
        string help = RealCriu.Run(RealCriu.Program, ["--help"]).Output;
        IEnumerable<string> named = LongOption().Matches(help).Select(match => match.Groups[1].Value).Distinct();
        // Those two show how a switch is taken back.
        Assert.That(named.Except(CriuOption.All.Select(option => option.Name)), Is.SubsetOf(new[] { "no-display-stats", "no-" }));
    }

    private static string Said(string argument)
    {
        Outcome outcome = RealCriu.Run(RealCriu.Program, [argument]);
        return outcome.Output + outcome.Errors;
    }

    [GeneratedRegex("--([a-z][a-z-]*)")]
    private static partial Regex LongOption();
}
