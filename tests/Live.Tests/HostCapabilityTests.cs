using NUnit.Framework;
using Testbed.Scenarios;
using Testbed.Uffd;

namespace Testbed.Live.Tests;

/// <summary>What the host is said to be able to do.</summary>
[NonParallelizable]
public sealed class HostCapabilityTests
{
    [Test]
    public void EveryCapabilityHasALineAndARemedyWhenItIsNotThere()
    {
        IReadOnlyList<HostCapability> capabilities = HostCapabilities.Probe(CriuSetup.Find(), CriuSetup.Script("criu.sh"), PipeLimits.PipeBytes);
        Assert.Multiple(() =>
        {
            Assert.That(capabilities.Select(c => c.Name), Is.Unique.And.SupersetOf(
                (string[])["userfaultfd", "/dev/userfaultfd", "userfaultfd features", "ptrace", "pidfd_getfd", "PAGEMAP_SCAN", "process_vm_readv", "fs.pipe-user-pages-soft", "fs.pipe-max-size", "CRIU"]));
            foreach (HostCapability c in capabilities)
            {
                TestContext.Out.WriteLine($"{c.Status,-9} {c.Name,-24} {c.Detail}{(c.Remedy.Length > 0 ? " -> " + c.Remedy : "")}");
                Assert.That(c.Detail + c.Remedy, Is.Not.Empty.And.Not.Contains("\n"), c.Name);
                Assert.That(c.Remedy, c.Status == CapabilityStatus.Available ? Is.Empty : Is.Not.Empty, c.Name);
            }
        });
    }

    [Test]
    public void RootCanCaptureHere()
    {
        Live.RequireRoot();
        Assert.That(HostCapabilities.WhyNoCapture(HostCapabilities.Probe(CriuSetup.Find(), CriuSetup.Script("criu.sh"), PipeLimits.PipeBytes)), Is.Null);
    }

    [Test]
    public void WhatIsMissingIsSaidInOneLine() =>
        Assert.That(HostCapabilities.WhyNoCapture([new("ptrace", CapabilityStatus.Missing, "Operation not permitted", "run as root", true)]),
            Is.EqualTo("ptrace: Operation not permitted; run as root"));
}
