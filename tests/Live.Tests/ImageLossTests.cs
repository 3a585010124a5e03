using System.Diagnostics;
using Mono.Unix.Native;
using NUnit.Framework;
using Testbed.Uffd;

namespace Testbed.Live.Tests;

/// <summary>
/// The images of a capture are deleted, cut, replaced, or fail, while the process depends on them: it never reads a wrong page, and whoever
/// holds its memory waits, says why, and goes on by itself when they are back.
/// </summary>
[NonParallelizable]
public sealed class ImageLossTests
{
    private const int Sigint = 2;
    private string _folder = "";

    [SetUp]
    public void Require()
    {
        Live.RequireRoot();
        _folder = Directory.CreateTempSubdirectory("live-loss-").FullName;
    }

    [TearDown]
    public void Remove()
    {
        if (Directory.Exists(_folder))
            Directory.Delete(_folder, recursive: true);
    }

    private string Images => Path.Combine(_folder, "images");

    private string Pages => Path.Combine(Images, "pages-1.img");

    private Cli Record(Subject subject)
    {
        Cli recorder = new("record", "--pid", $"{subject.Pid}", "--for", "60s", "-o", "/dev/null", "--images", Images);
        Redis.WaitFor(() => Directory.Exists(Images) && Live.Serves(Images));
        return recorder;
    }

    private static void AssertAsBefore(Subject subject, string expected)
    {
        Assert.That(subject.Ask("h"), Is.EqualTo(expected));
        Assert.That(subject.Ask("s"), Does.StartWith("spurious 0 wrong 0"));
        Assert.That(subject.Traces(), Does.Not.Contain("userfaultfd"));
        Assert.That(File.ReadAllText($"/proc/{subject.Pid}/smaps"), Does.Not.Contain(" um "));
    }

    /// <summary>A line that a process is asked for while memory of it is missing: later, or not at all.</summary>
    private static Task<string?> AskWithoutWaiting(Subject subject, string command)
    {
        subject.Send(command);
        return Task.Run(subject.ReadLine);
    }

    [Test]
    public void Record_keeps_serving_when_its_images_are_deleted([Values] bool killed)
    {
        using Subject subject = Subject.Start(1024, threads: true), twin = Subject.Start(1024, threads: true);
        string right = twin.Ask("h")!;
        using Cli recorder = Record(subject);
        Directory.Delete(Images, recursive: true);
        if (killed)
        {
            recorder.Kill();
            recorder.WaitForExit();
            Redis.WaitFor(() => recorder.Guard is null);
            Assert.That(recorder.GuardLog, Does.Contain("has all its memory back"));
        }
        else
        {
            Assert.That(subject.Ask("h"), Is.EqualTo(right), "while it is served");
            recorder.Signal(Sigint);
            Assert.That(recorder.WaitForExit(), Is.EqualTo(130), recorder.Error);
        }
        AssertAsBefore(subject, right);
    }

    /// <summary>Cut in the middle of a page; then the same bytes are put back, into the file or as another one in its place.</summary>
    [Test]
    public void Record_waits_for_pages_that_were_cut_off([Values] bool killed, [Values] bool replaced)
    {
        using Subject subject = Subject.Start(1024, threads: true), twin = Subject.Start(1024, threads: true);
        string right = twin.Ask("h")!;
        using Cli recorder = Record(subject);
        byte[] content = File.ReadAllBytes(Pages);
        Cut(Pages, content.Length / 3 + 1000);
        Task<string?> answer = AskWithoutWaiting(subject, "h");
        Redis.WaitFor(() => recorder.ErrorSoFar.Contains("was cut short", StringComparison.Ordinal));
        if (killed)
            recorder.Kill();
        else
            recorder.Signal(Sigint);
        // What is not cut off is given back, and the rest waited for.
        if (killed)
            Redis.WaitFor(() => recorder.GuardLog.Contains("was cut short", StringComparison.Ordinal));
        else
            Redis.WaitFor(() => recorder.ErrorSoFar.Contains("cannot be given back yet", StringComparison.Ordinal));
        Assert.That(answer.Wait(TimeSpan.FromSeconds(1)), Is.False, "it waits for its page");
        Assert.That(recorder.HasExited, Is.EqualTo(killed), "it must not leave the process alone");
        Assert.That(recorder.GuardLog, Does.Not.Contain("all its memory").And.Not.Contain("as it was"));
        if (replaced)
        {
            File.WriteAllBytes(Pages + ".new", content);
            File.Move(Pages + ".new", Pages, overwrite: true);
        }
        else
        {
            File.WriteAllBytes(Pages, content);
        }
        Assert.That(answer.Result, Is.EqualTo(right));
        if (killed)
        {
            Redis.WaitFor(() => recorder.Guard is null);
            Assert.That(recorder.GuardLog, Does.Contain("can be read again").And.Contain("has all its memory back"));
        }
        else
        {
            Assert.That(recorder.WaitForExit(), Is.EqualTo(130), recorder.Error);
            Assert.That(recorder.Error, Does.Contain("can be read again"));
        }
        AssertAsBefore(subject, right);
    }

    [Test]
    public void Record_does_not_take_other_images_for_its_own()
    {
        using Subject subject = Subject.Start(1024, threads: true), twin = Subject.Start(1024, threads: true);
        string right = twin.Ask("h")!;
        using Cli recorder = Record(subject);
        byte[] content = File.ReadAllBytes(Pages);
        Cut(Pages, content.Length / 2);
        Task<string?> answer = AskWithoutWaiting(subject, "h");
        Redis.WaitFor(() => recorder.ErrorSoFar.Contains("was cut short", StringComparison.Ordinal));
        File.WriteAllBytes(Pages + ".other", new byte[content.Length]);
        File.Move(Pages + ".other", Pages, overwrite: true);
        Assert.That(answer.Wait(TimeSpan.FromSeconds(2)), Is.False, "zero pages are not what was taken");
        File.WriteAllBytes(Pages + ".new", content);
        File.Move(Pages + ".new", Pages, overwrite: true);
        Assert.That(answer.Result, Is.EqualTo(right));
        recorder.Signal(Sigint);
        Assert.That(recorder.WaitForExit(), Is.EqualTo(130), recorder.Error);
        AssertAsBefore(subject, right);
    }

    /// <summary>A disk with errors: pages of which there is a copy in good parts come, the others are waited for.</summary>
    [Test]
    public void Record_waits_for_a_disk_that_fails()
    {
        string disk = Path.Combine(_folder, "disk"), there = Path.Combine(_folder, "mount");
        using (FileStream file = File.Create(disk))
            file.SetLength(160 << 20);
        Directory.CreateDirectory(there);
        Live.Run("mkfs.ext4", "-q", "-F", disk);
        Live.Run("mount", "-o", "loop", disk, there);
        if (new DriveInfo(there).DriveFormat is not ("ext4" or "ext3"))
            Live.Missing("a file system in a file cannot be mounted");
        try
        {
            using Subject subject = Subject.Start(1024, threads: true), twin = Subject.Start(1024, threads: true);
            string right = twin.Ask("h")!, images = Path.Combine(there, "images"), pages = Path.Combine(images, "pages-1.img");
            using Cli recorder = new("record", "--pid", $"{subject.Pid}", "--for", "60s", "-o", "/dev/null", "--images", images);
            Redis.WaitFor(() => Directory.Exists(images) && Live.Serves(images));
            Live.Run("sync", "-f", pages);
            byte[] whole = File.ReadAllBytes(disk);
            Cut(disk, 4 << 20);
            int fd = Syscall.open(pages, OpenFlags.O_RDONLY);
            _ = Syscall.posix_fadvise(fd, 0, 0, PosixFadviseAdvice.POSIX_FADV_DONTNEED);
            _ = Syscall.close(fd);
            Task<string?> answer = AskWithoutWaiting(subject, "h");
            Redis.WaitFor(() => recorder.ErrorSoFar.Contains("cannot be read", StringComparison.Ordinal));
            Assert.That(answer.Wait(TimeSpan.FromSeconds(1)), Is.False, "it waits for its page");
            File.WriteAllBytes(disk, whole);
            Assert.That(answer.Result, Is.EqualTo(right));
            recorder.Signal(Sigint);
            Assert.That(recorder.WaitForExit(), Is.EqualTo(130), recorder.Error);
            AssertAsBefore(subject, right);
        }
        finally
        {
            Live.Run("umount", "-l", there);
        }
    }

    /// <summary>The process is killed while its pages are missing: nobody waits any more.</summary>
    [Test]
    public void Record_ends_with_a_process_whose_pages_are_lost()
    {
        using Subject subject = Subject.Start(1024, threads: true);
        using Cli recorder = Record(subject);
        Cut(Pages, 0);
        subject.Send("h");
        Redis.WaitFor(() => recorder.ErrorSoFar.Contains("to give up, kill", StringComparison.Ordinal));
        subject.Program.Kill();
        Assert.That(recorder.WaitForExit(), Is.Zero.Or.EqualTo(1), recorder.Error);
    }

    /// <summary>Both were killed, and what they held open with them: nobody says that all is well.</summary>
    [Test]
    public void Rescue_says_what_is_missing_when_the_images_are_gone()
    {
        using Subject subject = Subject.Start(1024, threads: true), twin = Subject.Start(1024, threads: true);
        string right = twin.Ask("h")!, aside = Path.Combine(_folder, "aside");
        using Cli recorder = Record(subject);
        Live.Run("kill", "-9", $"{recorder.Guard}", $"{recorder.Pid}");
        recorder.WaitForExit();
        Directory.CreateDirectory(aside);
        File.Move(Pages, Path.Combine(aside, "pages"));
        Task<string?> answer = AskWithoutWaiting(subject, "h");
        using (Cli rescue = new("rescue", "--pid", $"{subject.Pid}", "--images", Images))
        {
            Assert.That(rescue.WaitForExit(), Is.EqualTo(2));
            Assert.That(rescue.Error, Does.Contain("pages-1.img"));
        }
        Assert.That(answer.IsCompleted, Is.False);
        File.Move(Path.Combine(aside, "pages"), Pages);
        using (Cli rescue = new("rescue", "--pid", $"{subject.Pid}", "--images", Images))
            Assert.That(rescue.WaitForExit(), Is.Zero, rescue.Error);
        Assert.That(answer.Result, Is.EqualTo(right));
        AssertAsBefore(subject, right);
    }

    private static void Cut(string path, long length)
    {
        using FileStream file = new(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        file.SetLength(length);
    }
}
