using Core.Tests;
using NUnit.Framework;
using Testbed.Core;
using Testbed.Policies;

namespace Policies.Tests;

/// <summary>The deterministic simulation of Core.Tests under each real policy, and one after the other in a forked family.</summary>
[TestFixture]
public sealed class ModelTests
{
    private const int Seeds = 150, Steps = 400;

    [TestCaseSource(typeof(PolicyCatalog), nameof(PolicyCatalog.Names))]
    [TestCase("leap + hot-first")]
    [TestCase("markov limit 2 then bubbling:pivots=3")]
    public void Every_page_comes_in_once_and_right_under(string policy)
    {
        PolicySpec spec = PolicyCatalog.Parse(policy);
        for (int seed = 0; seed < Seeds; seed++)
        {
            try
            {
                new Model(seed, (map, recording) => new CheckedPolicy(spec.Create(new PolicyEnvironment(map, recording, (ulong)seed)))).Run(Steps);
            }
            catch (Exception e)
            {
                Assert.Fail($"{policy}, seed {seed}: {e}");
            }
        }
    }
}
