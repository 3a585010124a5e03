using System.Diagnostics;
using NUnit.Framework;
using Testbed.Uffd;

namespace Testbed.Live.Tests;

/// <summary>What recorder and guard say to each other is never lost, and nobody touches what is another capture's.</summary>
[NonParallelizable]
public sealed class GuardLossTests
{
    private string _images = "";

    [SetUp]
    public void Require()
    {
        Live.RequireRoot();
        _images = Directory.CreateTempSubdirectory("live-guard-").FullName;
    }

    [TearDown]
    public void Remove()
    {
        if (Directory.Exists(_images))
            Directory.Delete(_images, recursive: true);
    }

    private Cli Record(int pid, params string[] more) =>
        new(["record", "--pid", $"{pid}", "--for", "60s", "-o", "/dev/null", "--images", _images, .. more]);

    private Cli Recording(int pid)
    {
        Cli recorder = Record(pid);
        Redis.WaitFor(() => Live.Serves(_images));
        return recorder;
    }

    /// <summary>The other end is closed with a word of ours unread: it said farewell all the same.</summary>
    [Test]
    public void Channel_gives_what_was_sent_before_a_close_with_unread_words()
    {
        (DescriptorChannel daemon, DescriptorChannel guard) = DescriptorChannel.Pair();
        using (guard)
        {
            Assert.That(guard.Send('R'), Is.True);
            Assert.That(daemon.Send('D', 7), Is.True);
            daemon.Dispose();
            Assert.That(guard.Receive(TimeSpan.FromSeconds(1)), Is.EqualTo(new ChannelMessage('D', 7, -1)));
            Assert.That(guard.Receive(TimeSpan.FromSeconds(1)), Is.EqualTo(default(ChannelMessage)));
        }
    }

    /// <summary>More descriptors than the queue of a local datagram socket holds come while the guard does not look.</summary>
    [Test]
    public void Channel_holds_many_descriptors_for_a_guard_that_does_not_look()
    {
        (DescriptorChannel daemon, DescriptorChannel guard) = DescriptorChannel.Pair();
        using (daemon)
        using (guard)
        {
            using FileStream file = File.OpenRead("/dev/null");
            int fd = (int)file.SafeFileHandle.DangerousGetHandle();
            for (int i = 0; i < 100; i++)
                Assert.That(daemon.Send('K', i, fd), Is.True, $"{i}");
            for (int i = 0; i < 100; i++)
            {
                ChannelMessage message = guard.Receive(TimeSpan.FromSeconds(1))!.Value;
                Assert.That((message.Kind, message.Value, message.Descriptor >= 0), Is.EqualTo(('K', i, true)));
                _ = Mono.Unix.Native.Syscall.close(message.Descriptor);
            }
        }
    }

    /// <summary>A guard that did not get to run while the recorder ended says nothing and removes nothing of the next capture.</summary>
    [Test]
    public void Guard_that_was_stopped_leaves_the_next_capture_alone()
    {
        using Subject subject = Subject.Start(1024, threads: true), twin = Subject.Start(1024, threads: true);
        string right = twin.Ask("h")!;
        using Cli first = Recording(subject.Pid);
        int late = first.Guard!.Value;
        Live.Run("kill", "-STOP", $"{late}");
        // It waits for its guard a while, and goes without; killed at that moment, it leaves a guard that knows nothing of the end.
        first.Signal(2);
        Redis.WaitFor(() => !subject.Traces().Contains("userfaultfd", StringComparison.Ordinal));
        bool HasEnded()
        {
            using ChangeJournal journal = ChangeJournal.Open(_images);
            return journal.Phase == CapturePhase.Ended;
        }
        Redis.WaitFor(HasEnded);
        first.Kill();
        first.WaitForExit();
        using Cli second = Recording(subject.Pid);
        Live.Run("kill", "-CONT", $"{late}");
        Redis.WaitFor(() => first.Guard is null);
        Assert.That(first.GuardLog, Is.Empty, "all was well");
        Assert.That(ChangeJournal.Exists(_images), "it is the second one's");
        second.Kill();
        second.WaitForExit();
        Assert.That(subject.Ask("h"), Is.EqualTo(right));
        Redis.WaitFor(() => second.Guard is null);
        Assert.That(second.GuardLog, Does.Contain("has all its memory back"));
        Assert.That(subject.Traces(), Does.Not.Contain("userfaultfd"));
    }

    [Test]
    public void Record_refuses_a_directory_that_another_capture_uses()
    {
        using Subject subject = Subject.Start(1024, threads: true), other = Subject.Start(256, threads: true), twin = Subject.Start(1024, threads: true);
        string right = twin.Ask("h")!, traces = other.Traces();
        using Cli first = Recording(subject.Pid);
        using (Cli second = Record(other.Pid))
        {
            Assert.That(second.WaitForExit(), Is.EqualTo(2));
            Assert.That(second.Error, Does.Contain($"uses it for a capture of process {subject.Pid}"));
        }
        Assert.That(other.Traces(), Is.EqualTo(traces));
        using (Cli rescue = new("rescue", "--pid", $"{subject.Pid}", "--images", _images))
        {
            Assert.That(rescue.WaitForExit(), Is.EqualTo(2));
            Assert.That(rescue.Error, Does.Contain("brings it back by itself"));
        }
        first.Kill();
        first.WaitForExit();
        Assert.That(subject.Ask("h"), Is.EqualTo(right));
    }

    [Test]
    public void Record_refuses_a_directory_that_holds_memory_of_a_process()
    {
        using Subject subject = Subject.Start(1024, threads: true), other = Subject.Start(256, threads: true), twin = Subject.Start(1024, threads: true);
        string right = twin.Ask("h")!;
        using Cli first = Recording(subject.Pid);
        Live.Run("kill", "-9", $"{first.Guard}", $"{first.Pid}");
        first.WaitForExit();
        using (Cli second = Record(other.Pid))
        {
            Assert.That(second.WaitForExit(), Is.EqualTo(2));
            Assert.That(second.Error, Does.Contain($"testbed rescue --pid {subject.Pid}"));
        }
        using (Cli rescue = new("rescue", "--pid", $"{subject.Pid}", "--images", _images))
            Assert.That(rescue.WaitForExit(), Is.Zero, rescue.Error);
        Assert.That(subject.Ask("h"), Is.EqualTo(right));
    }

    /// <summary>Memory that was taken from a process is served to this program alone: nobody can connect to it.</summary>
    [Test]
    public void Record_listens_on_no_address()
    {
        using Subject subject = Subject.Start(1024, threads: true);
        using Cli recorder = Recording(subject.Pid);
        Assert.That(Listeners(recorder.Pid), Is.Empty);
        Assert.That(Listeners(recorder.Guard!.Value), Is.Empty);
        recorder.Kill();
        recorder.WaitForExit();
    }

    /// <summary>The sockets of a process that somebody else could connect to, but for the one of the runtime's debugger, which is its user's alone.</summary>
    internal static List<string> Listeners(int pid)
    {
        HashSet<string> own = [.. Directory.EnumerateFileSystemEntries($"/proc/{pid}/fd").Select(fd => new FileInfo(fd).LinkTarget ?? "")
            .Where(target => target.StartsWith("socket:[", StringComparison.Ordinal)).Select(target => target["socket:[".Length..^1])];
        // Connections of a client that the test itself has come and go: a TCP socket counts when it listens (0A).
        IEnumerable<string> tcp = ((string[])["tcp", "tcp6", "udp", "udp6"]).SelectMany(kind => File.ReadLines($"/proc/{pid}/net/{kind}").Skip(1)
            .Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            .Where(fields => own.Contains(fields[9]) && (fields[3] == "0A" || kind.StartsWith("udp", StringComparison.Ordinal)))
            .Select(fields => $"{kind} {fields[1]}"));
        IEnumerable<string> local = File.ReadLines($"/proc/{pid}/net/unix").Skip(1).Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            .Where(fields => fields.Length > 7 && own.Contains(fields[6]) && !fields[7].Contains("dotnet-diagnostic", StringComparison.Ordinal)).Select(fields => $"unix {fields[7]}");
        return [.. tcp, .. local];
    }
}
