using System.Globalization;
using Testbed.Core;
using ZstdSharp;

namespace Testbed.Traces;

/// <summary>
/// What pages hold, as far as it decides how cheaply they could be moved: zeros, and how small a page becomes by itself. A capture
/// counts a sample of its pages and keeps the counts as properties of its trace.
/// </summary>
/// <param name="Pages">Pages looked at.</param>
/// <param name="Zero">Of them, all zeros.</param>
/// <param name="Compressible">Of them, at most half as big after zstd at level 1, each page by itself. Zero pages are among them.</param>
/// <param name="CompressedBytes">Bytes of all of them after that; a page that would grow counts as it is.</param>
public readonly record struct PageContent(long Pages, long Zero, long Compressible, long CompressedBytes)
{
    private const string Prefix = "content-";

    /// <summary>The share of zero pages, 0 to 1.</summary>
    public double ZeroShare => (double)Zero / Math.Max(1, Pages);

    /// <summary>The share of pages that become half as big or smaller, 0 to 1.</summary>
    public double CompressibleShare => (double)Compressible / Math.Max(1, Pages);

    /// <summary>Size after compression over size before.</summary>
    public double CompressedShare => (double)CompressedBytes / Math.Max(1, Pages * PageNumber.Size);

    /// <summary>Counts pages, one call for each.</summary>
    public sealed class Counter : IDisposable
    {
        private readonly Compressor _compressor = new(1);
        private readonly byte[] _room = new byte[Compressor.GetCompressBound((int)PageNumber.Size)];

        /// <summary>What was counted so far.</summary>
        public PageContent Counted { get; private set; }

        /// <summary>Looks at one page.</summary>
        public void Add(ReadOnlySpan<byte> page)
        {
            bool zero = !page.ContainsAnyExcept((byte)0);
            int size = Math.Min(page.Length, _compressor.Wrap(page, _room));
            PageContent c = Counted;
            Counted = new PageContent(c.Pages + 1, c.Zero + (zero ? 1 : 0), c.Compressible + (size <= page.Length / 2 ? 1 : 0), c.CompressedBytes + size);
        }

        /// <inheritdoc/>
        public void Dispose() => _compressor.Dispose();
    }

    /// <summary>As properties of a trace.</summary>
    public IEnumerable<KeyValuePair<string, string>> ToProperties() =>
    [
        Property("pages", Pages), Property("zero", Zero), Property("compressible", Compressible), Property("compressed-bytes", CompressedBytes),
    ];

    /// <summary>What a trace says about its pages; null when it says nothing.</summary>
    public static PageContent? From(TraceHeader header) =>
        Read(header, "pages") is long pages && Read(header, "zero") is long zero
        && Read(header, "compressible") is long compressible && Read(header, "compressed-bytes") is long bytes
            ? new PageContent(pages, zero, compressible, bytes) : null;

    private static KeyValuePair<string, string> Property(string name, long value) => new(Prefix + name, value.ToString(CultureInfo.InvariantCulture));

    private static long? Read(TraceHeader header, string name) =>
        header.Properties.TryGetValue(Prefix + name, out string? text) && long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long value) ? value : null;
}
