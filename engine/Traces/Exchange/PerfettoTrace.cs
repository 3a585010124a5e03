using Google.Protobuf;
using Testbed.Core;
using Testbed.Traces.Perfetto;

namespace Testbed.Traces.Exchange;

/// <summary>
/// A file for ui.perfetto.dev: under the process a track for each thread with its stalls, from the daemon's wake-up to the thread's, and a
/// track for the lane with each page's way from the request to its arrival. Slices of one track must nest, so what overlaps lies on
/// tracks of its own below.
/// </summary>
internal static class PerfettoTrace
{
    private const uint Sequence = 1, IncrementalStateCleared = 1;
    private const ulong ProcessTrack = 1;

    private readonly record struct Slice(Instant Begin, Instant End, string Name, PageNumber Page, Access Access);

    public static void Write(Trace trace, Stream stream)
    {
        using var output = new CodedOutputStream(stream, leaveOpen: true);
        var writer = new Packets(output);
        int pid = trace.Header.TargetPid > 0 ? trace.Header.TargetPid : 1;
        writer.Descriptor(new TrackDescriptor { Uuid = ProcessTrack, Process = new ProcessDescriptor { Pid = pid, ProcessName = trace.Header.Workload } });
        foreach (var thread in trace.Faults.GroupBy(f => f.Thread).OrderBy(g => g.Key))
        {
            TraceThread about = trace.Threads[thread.Key];
            string name = about.Name.Length > 0 ? about.Name : $"thread {about.Index}";
            // A thread that another tool did not tell has no id; the viewer wants one.
            var descriptor = new ThreadDescriptor { Pid = pid, Tid = about.Tid > 0 ? about.Tid : pid + about.Index, ThreadName = name };
            writer.Tracks("stalls", [.. thread.Select(f => new Slice(f.Woken, f.Resolved, FaultTable.Word(f.Cause), f.Page, f.Access))],
                uuid => new TrackDescriptor { Uuid = uuid, Thread = descriptor, ParentUuid = ProcessTrack });
        }
        Slice[] transfers = [.. trace.Faults.Where(f => f.Cause != Cause.Zero && f.Arrived > f.Requested).Select(f => new Slice(f.Requested, f.Arrived, FaultTable.Word(f.Cause), f.Page, f.Access))];
        writer.Tracks(LaneName(trace), transfers, uuid => new TrackDescriptor { Uuid = uuid, Name = LaneName(trace), ParentUuid = ProcessTrack });
    }

    /// <summary>A fault does not say which lane its page came on; a capture has one.</summary>
    private static string LaneName(Trace trace) => trace.Header.Kind == RecordingKind.Capture ? "lane 0" : "lanes";

    private sealed class Packets(CodedOutputStream output)
    {
        private const int PacketField = 1;
        private bool _begun;
        private ulong _uuid = ProcessTrack;

        public void Descriptor(TrackDescriptor descriptor) => Write(new TracePacket { TrackDescriptor = descriptor });

        /// <summary>Slices on as few tracks as keep them apart; the first is the one described, the others lie below it.</summary>
        public void Tracks(string name, Slice[] slices, Func<ulong, TrackDescriptor> first)
        {
            Array.Sort(slices, (a, b) => a.Begin != b.Begin ? a.Begin.CompareTo(b.Begin) : a.End.CompareTo(b.End));
            var tracks = new List<List<Slice>>();
            foreach (Slice slice in slices)
            {
                List<Slice>? free = tracks.Find(t => t[^1].End <= slice.Begin);
                if (free is null)
                    tracks.Add(free = []);
                free.Add(slice);
            }
            ulong top = _uuid + 1;
            for (int i = 0; i < tracks.Count; i++)
            {
                ulong uuid = ++_uuid;
                Descriptor(i == 0 ? first(uuid) : new TrackDescriptor { Uuid = uuid, Name = $"{name} ({i + 1} at once)", ParentUuid = top });
                foreach (Slice slice in tracks[i])
                    Add(uuid, slice);
            }
        }

        private void Add(ulong track, in Slice slice)
        {
            var begin = new TrackEvent { Type = TrackEvent.Types.Type.SliceBegin, TrackUuid = track, Name = slice.Name };
            begin.Categories.Add("fault");
            begin.DebugAnnotations.Add(new DebugAnnotation { Name = "page", PointerValue = slice.Page.Address });
            begin.DebugAnnotations.Add(new DebugAnnotation { Name = "access", StringValue = FaultTable.Word(slice.Access) });
            Write(new TracePacket { Timestamp = (ulong)slice.Begin.Nanoseconds, TrackEvent = begin });
            Write(new TracePacket
            {
                Timestamp = (ulong)slice.End.Nanoseconds,
                TrackEvent = new TrackEvent { Type = TrackEvent.Types.Type.SliceEnd, TrackUuid = track },
            });
        }

        private void Write(TracePacket packet)
        {
            packet.TrustedPacketSequenceId = Sequence;
            if (!_begun)
                packet.SequenceFlags = IncrementalStateCleared;
            _begun = true;
            output.WriteTag(PacketField, WireFormat.WireType.LengthDelimited);
            output.WriteMessage(packet);
        }
    }
}
