using System.Globalization;
using System.Net;
using System.Text;
using Testbed.Core;
using Testbed.Reports.Figures;

namespace Testbed.Reports;

/// <summary>What every page has that people open: one file that needs no other and no network, light and dark, with what was run at its end.</summary>
internal sealed class HtmlPage
{
    private readonly StringBuilder _html = new();

    /// <summary>Begins a page.</summary>
    /// <param name="context">What was run.</param>
    /// <param name="counts">What the line below the heading says after scenario and date.</param>
    public HtmlPage(ReportContext context, string counts) =>
        Append("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
            .Append($"<title>{E(context.Title)}</title>\n<style>\n{FigureWriter.FontFace}\n{Assets.Text("report.css")}</style>\n</head>\n<body>\n")
            .Append("<button id=\"theme\" type=\"button\" aria-label=\"Switch between light and dark\">◐</button>\n")
            .Append($"<h1>{E(context.Title)}</h1>\n")
            .Append($"<p class=\"sub\">{E(context.Scenario)} · {context.Date.UtcDateTime:yyyy-MM-dd HH:mm} UTC · {E(counts)}</p>\n");

    /// <summary>Adds text that is HTML already.</summary>
    public HtmlPage Append(string html)
    {
        _html.Append(html);
        return this;
    }

    /// <summary>Begins a table that a click on a heading sorts; the headings are complete cells.</summary>
    public HtmlPage BeginTable(params IEnumerable<string> heads) =>
        Append($"<div class=\"scroll\"><table class=\"results\">\n<thead><tr>{string.Concat(heads)}</tr></thead>\n<tbody>\n");

    /// <summary>Ends a table.</summary>
    public HtmlPage EndTable() => Append("</tbody></table></div>\n");

    /// <summary>Adds the figures, with their captions and links to their files.</summary>
    public HtmlPage Figures(IReadOnlyList<DrawnFigure> figures)
    {
        Append("<h2>Figures</h2>\n");
        foreach (DrawnFigure figure in figures)
        {
            string file = Uri.EscapeDataString(figure.Name);
            Append($"<figure id=\"{E(figure.Name)}\" class=\"{(figure.Width > FigureStyle.Report.ColumnWidth ? "page" : "column")}\">\n<h3>{E(figure.Title)}</h3>\n<div class=\"scroll\">{figure.Inline}</div>\n<figcaption>{E(figure.Caption)} ")
                .Append($"<a href=\"figures/{file}.pdf\">PDF</a> · <a href=\"figures/{file}.svg\">SVG</a> · <a href=\"figures/{file}.png\">PNG</a></figcaption>\n</figure>\n");
        }
        return this;
    }

    /// <summary>Ends the page: what was run, how to run it again, and what the words mean.</summary>
    /// <returns>All of it.</returns>
    public string End(ReportContext context, IEnumerable<(string Word, string Meaning)> words)
    {
        Append("<h2>What was run</h2>\n<p>To make this report again:</p>\n")
            .Append($"<pre>{E(context.CommandLine)}</pre><button class=\"copy\" type=\"button\">Copy</button>\n<dl>\n");
        Term("Scenario", context.Scenario);
        Term("Commit", context.Commit);
        Term("Version", context.ToolVersion);
        Term("Seed", context.Seed.ToString(CultureInfo.InvariantCulture));
        foreach (TraceProvenance trace in context.Traces)
            Term($"Trace of {trace.Workload}", string.Join(", ", new[] { trace.Path, trace.Hash, Pages(trace.Image) }.Where(t => t.Length > 0)));
        Term("Kernel", context.Kernel);
        Term("CPU", context.Cpu);
        if (context.Calibration.Length > 0)
            Term("Calibration", context.Calibration);
        Term("Date", context.Date.UtcDateTime.ToString("yyyy-MM-dd HH:mm:ss 'UTC'", CultureInfo.InvariantCulture));
        Append("</dl>\n<h3>Words</h3>\n<dl>\n");
        foreach ((string word, string meaning) in words)
            Term(word, meaning);
        return Append($"</dl>\n<script>\n{Assets.Text("report.js")}</script>\n</body>\n</html>\n")._html.ToString();

        void Term(string term, string text) => Append($"<dt>{E(term)}</dt><dd>{(text.Length > 0 ? E(text) : "not known")}</dd>\n");
    }

    /// <summary>A heading of a column of texts.</summary>
    public static string Head(string text) => $"<th class=\"t\"><button type=\"button\">{E(text)}</button></th>";

    /// <summary>A heading of a column of numbers.</summary>
    public static string NumberHead(string text, string help) => $"<th data-n title=\"{E(help)}\"><button type=\"button\">{E(text)}</button></th>";

    /// <summary>A cell with a text; what comes after it is not sorted by.</summary>
    public static string Cell(string text, string after = "") => $"<td class=\"t\" data-v=\"{E(text)}\">{E(text)}{after}</td>";

    /// <summary>A cell with a number; null where there is none.</summary>
    public static string NumberCell(double? value, string? text, string hint = "", string attributes = "")
    {
        string title = hint.Length > 0 ? $" title=\"{E(hint)}\"" : "";
        return $"<td{attributes} data-v=\"{value?.ToString("R", CultureInfo.InvariantCulture)}\"{title}>{E(text ?? Column.None)}</td>";
    }

    /// <summary>A text as HTML, without marks that would reverse what follows.</summary>
    public static string E(string text) => WebUtility.HtmlEncode(Printable.Lines(text));

    private static string Pages(Core.MemoryImage? image) =>
        image is null ? "" : $"{image.PresentPages:N0} pages to fetch of {image.TotalPages:N0} in {image.Areas.Count:N0} areas";
}
