using NUnit.Framework;
using Testbed.Core;
using Testbed.Policies;

namespace Policies.Tests;

[TestFixture]
public sealed class PolicyCatalogTests
{
    [Test]
    public void Every_policy_says_what_it_is_and_where_it_comes_from()
    {
        Assert.That(PolicyCatalog.Names, Is.SupersetOf(new[] { "bubbling", "criu", "demand", "next-n", "working-set" }).And.Ordered);
        foreach (string name in PolicyCatalog.Names)
        {
            PolicyAttribute about = PolicyCatalog.About(name);
            Assert.That((about.Name, about.Summary == "", about.Source == ""), Is.EqualTo((name, false, false)));
            Assert.That(PolicyCatalog.Options(name), Is.All.Matches<PolicyOption>(o => o is { Summary: not "", Default: not null }));
        }
    }

    [Test]
    public void Options_have_names_types_and_defaults() => Assert.That(
        PolicyCatalog.Options("next-n").Select(o => (o.Name, o.Type, o.Default)),
        Is.EqualTo(new (string, Type, object?)[] { ("n", typeof(int), 16), ("background", typeof(bool), true), ("aligned", typeof(bool), false), ("faults", typeof(int), 0) }));

    [TestCase("next-n")]
    [TestCase("next-n:n=1")]
    [TestCase("next-n:n=65536,background=false")]
    [TestCase("next-n:background=TRUE")]
    [TestCase("working-set:background=false")]
    [TestCase("working-set:order=sorted")]
    [TestCase("bubbling:chunk=4,pivots=7")]
    [TestCase("linux-readahead:rules=file")]
    [TestCase("working-set:recorded-in=all")]
    [TestCase("leap + hot-first")]
    [TestCase("leap+hot-first")]
    [TestCase("working-set then leap limit 4 + bubbling:pivots=3 then qemu")]
    public void Understands(string text) => Assert.That(PolicyCatalog.Parse(text).Text, Is.EqualTo(text));

    [TestCase("nothing", "policy \"nothing\": no such policy; expected one of adaptive, bubbling, criu, ")]
    [TestCase("", "no such policy")]
    [TestCase("next-n:", "no option \"\"; expected n=…, background=…")]
    [TestCase("next-n:m=3", "no option \"m\"; expected n=…, background=…")]
    [TestCase("next-n:n", "no option \"n\"")]
    [TestCase("next-n:n=0", "n=0; expected 1 to 65536")]
    [TestCase("next-n:n=65537", "n=65537; expected 1 to 65536")]
    [TestCase("next-n:n=99999999999999999999", "expected 1 to 65536")]
    [TestCase("next-n:n=x", "n=x; expected 1 to 65536")]
    [TestCase("next-n:n=1,background=maybe", "background=maybe; expected true or false")]
    [TestCase("demand:n=1", "no option \"n\"; demand has none")]
    [TestCase("linux-readahead:rules=both", "rules=both; expected swap or file or sequential")]
    [TestCase("linux-readahead:rules=1", "rules=1; expected swap or file or sequential")]
    [TestCase("leap + hot-first + criu", "3 policies joined by +; expected two: prefetch + background")]
    [TestCase("leap + ", "policy \"\": no such policy")]
    [TestCase("leap then", "policy \"leap then\": no such policy")]
    [TestCase("leap limit", "policy \"leap limit\": no such policy")]
    [TestCase("leap limit x", "limit x; expected 0 to 1073741824 pages")]
    [TestCase("leap limit -1", "limit -1; expected 0 to 1073741824 pages")]
    [TestCase("leap then next-n:m=3 + criu", "policy leap then next-n:m=3 + criu: no option \"m\"")]
    [TestCase("working-set:environment=1", "no option \"environment\"")]
    public void Refuses_in_one_line(string text, string message) => Assert.That(
        () => PolicyCatalog.Parse(text),
        Throws.TypeOf<BadInputException>().With.Message.Contains(message).And.Message.Not.Contains("\n"));

    [Test]
    public void Only_criu_has_the_transfer_of_criu() => Assert.That(
        PolicyCatalog.Names.Where(n => PolicyCatalog.Parse(n).DefaultTransfer == TransferOptions.Criu), Is.EqualTo(new[] { "criu" }));

    [Test]
    public void A_combination_is_carried_as_its_first_policy_is()
    {
        Assert.That(PolicyCatalog.Parse("criu limit 3 then leap").DefaultTransfer, Is.EqualTo(TransferOptions.Criu));
        Assert.That(PolicyCatalog.Parse("leap + criu").DefaultTransfer, Is.EqualTo(new TransferOptions()));
    }

    [Test]
    public void Options_say_which_values_they_take() => Assert.That(
        PolicyCatalog.Options("working-set").Select(o => $"{o.Name}: {o.Range}"),
        Is.EqualTo(new[] { "background: true or false", "order: recorded or sorted", "recorded-in: any or all" }));

    [Test]
    public void Each_address_space_has_its_own_policy_object()
    {
        PolicySpec spec = PolicyCatalog.Parse("bubbling");
        var environment = new PolicyEnvironment(new PageMap(Images.Of([(1, 1)], [])), [], 1);
        IPolicy first = spec.Create(environment), second = spec.Create(environment);
        Assert.That(second, Is.Not.SameAs(first));
    }
}
