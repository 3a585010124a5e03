using Testbed.Core;

namespace Testbed.Reports;

/// <summary>Where the results of one workload come from.</summary>
/// <param name="Workload">The name that <see cref="RunResult.Workload"/> carries.</param>
/// <param name="Path">The trace file, as given on the command line or in the scenario; empty when there is none.</param>
/// <param name="Hash">The hash of the trace's bytes; empty when there is none.</param>
/// <param name="Image">The areas that were away, for the address axis; null when not known, and the axis is then made
/// from the pages that were installed.</param>
public sealed record TraceProvenance(string Workload, string Path, string Hash, MemoryImage? Image);

/// <summary>
/// What was run, where and how: everything that a reader needs to run it again. The report is a function of this and of
/// the results alone: it reads no clock and no host.
/// </summary>
/// <param name="Title">The heading of the report.</param>
/// <param name="CommandLine">The one command that makes the same report again.</param>
/// <param name="Commit">The commit of the testbed.</param>
/// <param name="ToolVersion">The version of the testbed.</param>
/// <param name="Seed">The seed of the run.</param>
/// <param name="Scenario">The scenario's name, or its file.</param>
/// <param name="Traces">The traces, one per workload.</param>
/// <param name="Kernel">The kernel's release, as uname says.</param>
/// <param name="Cpu">The CPU's model and the number of CPUs.</param>
/// <param name="Calibration">The costs of link, server, install and wake that the replay used, and where they come from.</param>
/// <param name="Date">When it was run.</param>
public sealed record ReportContext(
    string Title, string CommandLine, string Commit, string ToolVersion, ulong Seed, string Scenario,
    IReadOnlyList<TraceProvenance> Traces, string Kernel, string Cpu, string Calibration, DateTimeOffset Date);
