using System.Diagnostics;
using Testbed.PageXfer.Images;

namespace Testbed.PageXfer.Tests;

/// <summary>CRIU's own decoder reads what we write: the one that scenarios/setup/criu.sh installed, or the system's.</summary>
public sealed class CritTests
{
    [TestCase("inventory.img", "img_version")]
    [TestCase("pstree.img", "\"pgid\": 42")]
    [TestCase("mm-42.img", "VMA_ANON_PRIVATE")]
    [TestCase("pagemap-42.img", "PE_LAZY | PE_PRESENT")]
    [TestCase("core-42.img", "\"mtype\": \"X86_64\"")]
    [TestCase("ids-42.img", "\"sighand_id\": 4")]
    [TestCase("stats-dump", "\"pages_lazy\": 8")]
    public void CritDecodes(string file, string says)
    {
        using var dir = new Scratch();
        Sample.Write(dir.Path);
        ImageFile.Write(dir["ids-42.img"], ImageMagic.Ids, new KernelObjectIds { VmId = 1, FilesId = 2, FsId = 3, SighandId = 4 });
        ImageFile.Write(dir["stats-dump"], ImageMagic.Stats, new StatsEntry
        {
            Dump = new DumpStatsEntry { FreezingTime = 1, FrozenTime = 2, MemdumpTime = 3, MemwriteTime = 4, PagesScanned = 5, PagesSkippedParent = 6, PagesWritten = 7, PagesLazy = 8 },
        });
        Process crit;
        try
        {
            crit = Process.Start(new ProcessStartInfo(Decoder(), ["decode", "--pretty", "-i", dir[file]])
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            })!;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Assert.Ignore("SKIPPED: crit is not installed (sh scenarios/setup/criu.sh): images are checked against golden bytes only");
            return;
        }
        string output = crit.StandardOutput.ReadToEnd() + crit.StandardError.ReadToEnd();
        crit.WaitForExit();
        Assert.That(crit.ExitCode, Is.Zero, output);
        Assert.That(output, Does.Contain(says));
    }

    private static string Decoder()
    {
        for (DirectoryInfo? at = new(AppContext.BaseDirectory); at is not null; at = at.Parent)
        {
            string crit = Path.Combine(at.FullName, "artifacts", "criu", "crit");
            if (File.Exists(crit))
                return crit;
        }
        return "crit";
    }
}
