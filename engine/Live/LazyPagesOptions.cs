using Testbed.Core;
using Testbed.PageXfer.Xfer;
using Testbed.Policies;

namespace Testbed.Live;

/// <summary>How a lazy-pages daemon serves.</summary>
public sealed record LazyPagesOptions
{
    /// <summary>The images of the process tree.</summary>
    public required string ImagesPath { get; init; }

    /// <summary>Where the socket is made.</summary>
    public required string WorkPath { get; init; }

    /// <summary>Opens a connection to the page server; null: the pages are in the images.</summary>
    public Func<PageLane>? Connect { get; init; }

    /// <summary>What comes when.</summary>
    public required PolicySpec Policy { get; init; }

    /// <summary>How requests are carried; null: as belongs to the policy, adapted to the link.</summary>
    public TransferOptions? Transfer { get; init; }

    /// <summary>What record-and-prefetch policies know.</summary>
    public IReadOnlyList<PageNumber> Recording { get; init; } = [];

    /// <summary>The trace to write; null: none.</summary>
    public string? TracePath { get; init; }

    /// <summary>How the program was called, for the trace.</summary>
    public string ToolCommandLine { get; init; } = "";

    /// <summary>What this program is called with to stand guard over the daemon, and bring in the rest when that is killed; null: no guard.</summary>
    public IReadOnlyList<string>? Guard { get; init; }

    /// <summary>Told what happens, from any thread: how bad (1 error to 4 debug), and a line.</summary>
    public Action<int, string> Log { get; init; } = static (_, _) => { };
}
