using Testbed.Core;
using Testbed.Policies;
using Testbed.Uffd;

namespace Testbed.Live;

/// <summary>How a process's memory is taken and served.</summary>
public sealed record LiveOptions
{
    /// <summary>What the target is called in traces and tables.</summary>
    public required string Workload { get; init; }

    /// <summary>Which of its areas.</summary>
    public RegionSelection Region { get; init; } = RegionSelection.Anon;

    /// <summary>What comes when.</summary>
    public PolicySpec Policy { get; init; } = PolicyCatalog.Parse("demand");

    /// <summary>How requests are carried; null: as belongs to the policy.</summary>
    public TransferOptions? Transfer { get; init; }

    /// <summary>The link to emulate between page server and daemon, as numbers.</summary>
    public LinkParameters Link { get; init; } = LinkParameters.Unshaped;

    /// <summary>And as typed.</summary>
    public string LinkName { get; init; } = "local";

    /// <summary>
    /// Whether pages come from a page server in this process also where the link is not shaped, as its costs are part of what is measured;
    /// otherwise they are read from the images.
    /// </summary>
    public bool ThroughServer { get; init; }

    /// <summary>For policies with randomness.</summary>
    public ulong Seed { get; init; } = 1;

    /// <summary>What record-and-prefetch policies know.</summary>
    public IReadOnlyList<PageNumber> Recording { get; init; } = [];

    /// <summary>The trace to write; null: none.</summary>
    public string? TracePath { get; init; }

    /// <summary>Whether the trace also holds every event of the fault service, so that the run can be replayed exactly.</summary>
    public bool TraceEvents { get; init; }

    /// <summary>Where the images go and stay; null: to a temporary directory that is deleted at the end.</summary>
    public string? ImagesPath { get; init; }

    /// <summary>What else the trace is to say about itself, by name.</summary>
    public IReadOnlyDictionary<string, string> TraceProperties { get; init; } = new Dictionary<string, string>();

    /// <summary>Whether a sample of the pages is looked at, for the trace (<see cref="Traces.PageContent"/>): prolongs the stop by 0.1 s.</summary>
    public bool DescribeContent { get; init; }

    /// <summary>How the program was called, for the trace.</summary>
    public string ToolCommandLine { get; init; } = "";

    /// <summary>
    /// Told, in a line and from the caller's own thread, what keeps pages from coming or the capture from ending, and when that is over.
    /// </summary>
    public Action<string> Log { get; init; } = static _ => { };

    /// <summary>The transfer options in force.</summary>
    public TransferOptions EffectiveTransfer => Transfer ?? Policy.DefaultTransfer;
}
