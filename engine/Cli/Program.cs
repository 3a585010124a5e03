using System.CommandLine;
using Testbed.Cli.Verbs;

namespace Testbed.Cli;

/// <summary>The whole program: every verb.</summary>
internal static class Program
{
    private static int Main(string[] args) => CommandLine.Run(
        new RootCommand("The lazy-restore testbed: capture, replay and serve post-copy memory.")
        {
            DemoVerb.Create(), RecordVerb.Create(), CaptureVerb.Create(), TraceVerb.Create(),
            ReplayVerb.Create(), CompareVerb.Create(), SweepVerb.Create(), FiguresVerb.Create(), RegressVerb.Create(),
            LiveVerb.Create(), MigrateVerb.Create(), CalibrateVerb.Create(), CalibrateVerb.CreateToucher(),
            PageServerVerb.Create(), LazyPagesVerb.Create(),
            RescueVerb.Create(), RescueVerb.CreateGuard(),
            PoliciesVerb.Create(), DoctorVerb.Create(), CompletionVerb.Create(),
        }, args);
}
