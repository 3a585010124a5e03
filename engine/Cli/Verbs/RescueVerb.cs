using System.CommandLine;
using Testbed.Core;
using Testbed.Live;
using Testbed.Uffd;

namespace Testbed.Cli.Verbs;

/// <summary>testbed rescue, and the hidden testbed guard that does the same by itself.</summary>
internal static class RescueVerb
{
    public static Command Create()
    {
        (Option<int> pid, Option<string> images) = Common();
        var command = new Command("rescue", """
            Give a process its memory back after the testbed that held it was killed together with its guard. The process stands
            still at the pages that are away; the images and the journal beside them are where --images said, or in a directory
            testbed-images-* of the temporary directory. Children that the process forked meanwhile cannot be rescued so.

            Example:
              testbed rescue --pid 4711 --images redis-images
            """)
        { pid, images };
        command.SetAction(parsed =>
        {
            (int target, string directory) = (parsed.GetValue(pid), parsed.GetRequiredValue(images));
            if (!Rescue.IsNeeded(directory))
                throw new BadInputException($"{directory}: holds no memory that was taken from a process; expected the images of a capture that was killed");
            using var nothing = new SavedDescriptors();
            FinishOutcome outcome = Rescue.Run(directory, target, nothing, Console.Error.WriteLine);
            ChangeJournal.Delete(directory);
            Console.WriteLine($"process {target} {RecordVerb.Describe(outcome)}");
            return 0;
        });
        return command;
    }

    public static Command CreateGuard()
    {
        (Option<int> pid, Option<string> images) = Common();
        var recorder = new Option<int>("--recorder") { Required = true };
        var delete = new Option<bool>("--delete-images");
        var command = new Command(GuardProcess.Verb, "Started by the verbs that take memory; of no use otherwise.") { pid, images, recorder, delete };
        command.Hidden = true;
        command.SetAction(parsed => GuardProcess.Run(
            parsed.GetValue(pid), parsed.GetValue(recorder), parsed.GetRequiredValue(images), parsed.GetValue(delete)));
        return command;
    }

    private static (Option<int> Pid, Option<string> Images) Common() =>
    (
        new Option<int>("--pid") { Description = "the process", Required = true },
        new Option<string>("--images") { Description = "the directory of its images", Required = true });
}
