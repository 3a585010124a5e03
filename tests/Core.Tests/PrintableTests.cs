using NUnit.Framework;

namespace Testbed.Core.Tests;

/// <summary>What is shown of text that was made to steer.</summary>
public sealed class PrintableTests
{
    [TestCase("plain µ × 日本語 😀 naïve", "plain µ × 日本語 😀 naïve")]
    [TestCase("a\u001b[31mb", "a\\u{1b}[31mb")]
    [TestCase("a\r\nb\tc\u0000d\u007fe\u009bf", "a\\u{d}\\u{a}b\\u{9}c\\u{0}d\\u{7f}e\\u{9b}f")]
    [TestCase("\u202e\u2066\u200b\u00ad\ufeff\u061c", "\\u{202e}\\u{2066}\\u{200b}\\u{ad}\\u{feff}\\u{61c}")]
    [TestCase("\u2028\u2029\u0085", "\\u{2028}\\u{2029}\\u{85}")]
    [TestCase("\U000e0041tag", "\\u{e0041}tag")]
    [TestCase("\ufffe\uffff\U0001ffff", "\\u{fffe}\\u{ffff}\\u{1ffff}")]
    public void Printable_shows_what_would_steer_as_its_number(string text, string shown) => Assert.That(Printable.Of(text), Is.EqualTo(shown));

    [Test]
    public void Printable_shows_half_a_pair_as_its_number() => Assert.That(Printable.Of("a\ud800b\udc00"), Is.EqualTo("a\\u{d800}b\\u{dc00}"));

    [Test]
    public void Lines_keep_line_feeds_and_nothing_else_that_ends_a_line() => Assert.That(Printable.Lines("a\nb\rc\u2028d\u001b"), Is.EqualTo("a\nb\\u{d}c\\u{2028}d\\u{1b}"));

    [Test]
    public void Plain_text_is_not_copied()
    {
        string text = new('a', 100);
        Assert.That(Printable.Of(text), Is.SameAs(text));
    }

    [TestCase("next-n:n=16", "next-n:n=16")]
    [TestCase("a,b", "\"a,b\"")]
    [TestCase("a\"b", "\"a\"\"b\"")]
    [TestCase("=1", "\"'=1\"")]
    public void Csv_cell_is_quoted_where_it_must_be(string name, string cell) => Assert.That(CsvCell.Of(name), Is.EqualTo(cell));

    [TestCase("next-n:n=16 over 1Gbit/s,1ms", "next-n:n=16 over 1Gbit/s,1ms")]
    [TestCase("**bold**", "` **bold** `")]
    [TestCase("a`b``c", "``` a`b``c ```")]
    [TestCase("a|b", "` a\\|b `")]
    [TestCase("see http://x", "` see http://x `")]
    public void Markdown_text_is_code_where_it_would_be_more_than_text(string text, string shown) => Assert.That(MarkdownText.Of(text), Is.EqualTo(shown));
}
