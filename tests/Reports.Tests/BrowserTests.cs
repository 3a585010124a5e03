using System.Diagnostics;
using System.Net;
using System.Text.Json;
using System.Text.RegularExpressions;
using NUnit.Framework;
using Testbed.Core;

namespace Testbed.Reports.Tests;

/// <summary>The report in a real browser: what a person would see and click.</summary>
[TestFixture]
public sealed partial class BrowserTests
{
    private const string Chromium = "/usr/bin/chromium";

    // Runs in the page, after the page's own script; what it found is read from the dumped document.
    private const string Probe = """
        <script>
        addEventListener('load', async () => {
        // What is laid out asks for its fonts, which come later, even out of the page itself.
        document.body.getBoundingClientRect();
        await document.fonts.ready;
        const found = { errors: window.probeErrors };
        const sheet = element => getComputedStyle(element);
        found.font = [...document.fonts].filter(f => f.status === 'loaded').map(f => f.family.replaceAll('"', ''));
        found.requests = performance.getEntriesByType('resource').map(e => e.name);
        found.tooWide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
        found.width = document.documentElement.clientWidth;
        found.figures = [...document.querySelectorAll('figure svg')].map(s => Math.round(s.getBoundingClientRect().height));
        const table = document.querySelector('table.results'), heads = [...table.querySelectorAll('thead th')];
        const column = heads.findIndex(h => h.textContent === 'Total stall');
        const values = () => [...table.tBodies[0].rows].map(r => +r.cells[column].dataset.v);
        const click = () => heads[column].querySelector('button').click();
        click(); found.up = values(); found.upLabel = heads[column].getAttribute('aria-sort');
        click(); found.down = values();
        found.light = sheet(document.body).backgroundColor;
        document.getElementById('theme').click();
        found.dark = sheet(document.body).backgroundColor;
        found.darkInk = sheet(document.querySelector('figure svg text')).fill;
        const pre = document.createElement('pre'); pre.id = 'probe'; pre.textContent = JSON.stringify(found); document.body.append(pre);
        });
        </script>
        """;

    private string _folder = "";

    [OneTimeSetUp]
    public void WriteReport()
    {
        if (!File.Exists(Chromium))
        {
            const string Missing = Chromium + ": not installed; scenarios/setup/debian.sh installs it";
            if (Environment.GetEnvironmentVariable("CI") == "true")
                Assert.Fail(Missing);
            Assert.Ignore(Missing);
        }
        _folder = Directory.CreateTempSubdirectory("report-browser-").FullName;
        string page = Report.Write(Path.Combine(_folder, "demo"), SyntheticRuns.Context, [.. SyntheticRuns.All(RunMode.Replay, 2000), .. SyntheticRuns.All(RunMode.Live, 2000)]);
        string html = File.ReadAllText(page)
            .Replace("<head>", "<head><script>window.probeErrors = []; addEventListener('error', e => probeErrors.push(e.message));</script>", StringComparison.Ordinal)
            .Replace("</body>", Probe + "</body>", StringComparison.Ordinal);
        // Alone in its folder: it must need no other file.
        Directory.CreateDirectory(Path.Combine(_folder, "alone"));
        File.WriteAllText(Path.Combine(_folder, "alone", "index.html"), html);
    }

    [OneTimeTearDown]
    public void Delete()
    {
        if (_folder.Length > 0)
            Directory.Delete(_folder, true);
    }

    [TestCase(1280)]
    [TestCase(500)]
    public void WorksForAPersonWithABrowser(int width)
    {
        JsonElement found = Browse(width);
        double[] Numbers(string name) => [.. found.GetProperty(name).EnumerateArray().Select(v => v.GetDouble())];
        Assert.That(found.GetProperty("errors").GetArrayLength(), Is.Zero, "script errors");
        Assert.That(found.GetProperty("requests").ToString(), Is.EqualTo("[]"), "it loads something");
        Assert.That(found.GetProperty("font").ToString(), Does.Contain("Testbed Sans"));
        Assert.That(found.GetProperty("tooWide").GetInt32(), Is.LessThanOrEqualTo(0), $"the page scrolls sideways at {found.GetProperty("width")} pixels");
        Assert.That(Numbers("figures"), Has.Length.GreaterThan(12).And.All.GreaterThan(60), "every figure is there, and has a height");
        Assert.That(Numbers("up"), Is.Ordered.Ascending.And.Length.EqualTo(30));
        Assert.That(found.GetProperty("upLabel").GetString(), Is.EqualTo("ascending"));
        Assert.That(Numbers("down"), Is.Ordered.Descending);
        Assert.That(found.GetProperty("light").GetString(), Is.EqualTo("rgb(255, 255, 255)"));
        Assert.That(found.GetProperty("dark").GetString(), Is.EqualTo("rgb(21, 23, 26)"));
        Assert.That(found.GetProperty("darkInk").GetString(), Is.EqualTo("rgb(232, 230, 227)"), "the figures' text follows the theme");
    }

    private JsonElement Browse(int width)
    {
        string profile = Path.Combine(_folder, $"profile-{width}");
        var start = new ProcessStartInfo(Chromium,
        [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND", $"--user-data-dir={profile}", $"--window-size={width},1200",
            "--virtual-time-budget=2000", "--dump-dom", "file://" + Path.Combine(_folder, "alone", "index.html"),
        ])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string document = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Match probe = ProbeResult().Match(document);
        Assert.That(probe.Success, Is.True, $"the page's script did not come to its end; chromium said: {errors.Result}");
        return JsonDocument.Parse(WebUtility.HtmlDecode(probe.Groups[1].Value)).RootElement;
    }

    [GeneratedRegex("""<pre id="probe">(.*?)</pre>""")]
    private static partial Regex ProbeResult();
}
