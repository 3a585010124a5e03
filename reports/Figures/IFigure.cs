using System.Text.RegularExpressions;
using Testbed.Core;
using Testbed.Reports.Statistics;

namespace Testbed.Reports.Figures;

/// <summary>One figure: one class. It draws from the data alone and knows nothing of files and formats.</summary>
public interface IFigure
{
    /// <summary>The name of its files, without extension: <c>latency-ecdf</c>.</summary>
    string Name { get; }

    /// <summary>A heading of a few words.</summary>
    string Title { get; }

    /// <summary>What is seen, and how to read it.</summary>
    string Caption { get; }

    /// <summary>Whether the data has what the figure shows.</summary>
    bool Applies(FigureData data);

    /// <summary>Draws it.</summary>
    FigureSheet Draw(FigureData data);
}

/// <summary>What figures are drawn from: the results of one workload.</summary>
public sealed partial class FigureData
{
    /// <summary>The workload, as a person calls it.</summary>
    public string Workload { get; }

    /// <summary>One per policy, link and mode.</summary>
    public IReadOnlyList<Summary> Summaries { get; }

    /// <summary>The policies, in order of first appearance.</summary>
    public IReadOnlyList<string> Policies { get; }

    /// <summary>The links, in order of first appearance.</summary>
    public IReadOnlyList<string> Links { get; }

    /// <summary>The areas of memory; null when not known.</summary>
    public MemoryImage? Image { get; }

    /// <summary>Live runs beside replays, where there are enough of them.</summary>
    public IReadOnlyList<FidelityPair> Fidelity { get; init; } = [];

    /// <summary>How large the figure may be.</summary>
    public FigureStyle Style { get; init; } = FigureStyle.Report;

    private readonly IReadOnlyList<string> _allPolicies;

    /// <summary>The results of one workload.</summary>
    /// <param name="workload">Its name.</param>
    /// <param name="summaries">Its results.</param>
    /// <param name="image">Its memory.</param>
    /// <param name="allPolicies">All policies of the report, so that each looks the same in every figure.</param>
    public FigureData(string workload, IReadOnlyList<Summary> summaries, MemoryImage? image, IReadOnlyList<string>? allPolicies = null)
    {
        (Workload, Summaries, Image) = (workload, summaries, image);
        Policies = [.. summaries.Select(s => s.Run.Policy).Distinct()];
        Links = [.. summaries.Select(s => s.Run.Link).Distinct()];
        _allPolicies = allPolicies ?? Policies;
    }

    /// <summary>The same workload, one mode only.</summary>
    public FigureData Only(RunMode mode) => Where(s => s.Run.Mode == mode);

    /// <summary>The same workload, one link only.</summary>
    public FigureData Only(string link) => Where(s => s.Run.Link == link);

    private FigureData Where(Func<Summary, bool> shown) => new(Workload, [.. Summaries.Where(shown)], Image, _allPolicies) { Style = Style };

    internal SeriesStyle StyleOf(string policy)
    {
        for (int i = 0; i < _allPolicies.Count; i++)
        {
            if (_allPolicies[i] == policy)
                return Palette.Series(i);
        }
        return Palette.Series(0);
    }

    /// <summary>The links as headings.</summary>
    internal IReadOnlyList<string> LinkTitles => [.. Links.Select(TitleOf)];

    /// <summary>A link as a paper writes it: <c>10 Gbit/s, 50 µs</c>; a short name as it is.</summary>
    internal static string TitleOf(string link) => !link.Contains(',', StringComparison.Ordinal) ? link
        : UnitAfterNumber().Replace(link, "$1 $2").Replace(",", ", ", StringComparison.Ordinal).Replace(" us", " µs", StringComparison.Ordinal);

    [GeneratedRegex("([0-9])([A-Za-z])")]
    private static partial Regex UnitAfterNumber();

    internal IEnumerable<Summary> On(string link) => Summaries.Where(s => s.Run.Link == link);

    internal LegendEntry[] LineLegend() => [.. Policies.Select(p => new LegendEntry(p, StyleOf(p)))];
}
