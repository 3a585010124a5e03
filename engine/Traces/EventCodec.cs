using Testbed.Core;

namespace Testbed.Traces;

/// <summary>Events of the fault service. Every field is kept, whatever the kind, so that the stream comes back as it was.</summary>
internal sealed class EventCodec : IBlockCodec<ServiceEvent>
{
    private enum Field { Kind = 1, Time, Space, Start, Count, Thread, How, Woken, Lane, Request, Destination, Other }

    private const ServiceEventKind LastKind = ServiceEventKind.Needed;
    private const InstallOutcome LastOutcome = InstallOutcome.ProcessGone;

    public BlockKind Kind => BlockKind.Events;

    public void Encode(ReadOnlySpan<ServiceEvent> records, ColumnWriter to)
    {
        to.Clear();
        Column(to, Field.Kind, records, static (in e, in _) => (ulong)e.Kind);
        Column(to, Field.Time, records, static (in e, in before) => ColumnWriter.Zigzag(e.Time.Nanoseconds - before.Time.Nanoseconds));
        Column(to, Field.Space, records, static (in e, in _) => ColumnWriter.Zigzag(e.Space));
        Column(to, Field.Start, records, static (in e, in before) => ColumnWriter.Zigzag(e.Range.Start - before.Range.Start));
        Column(to, Field.Count, records, static (in e, in _) => (ulong)e.Range.Count);
        Column(to, Field.Thread, records, static (in e, in _) => ColumnWriter.Zigzag(e.Thread));
        Column(to, Field.How, records, static (in e, in _) => (ulong)e.Access | (ulong)e.Outcome << 1);
        Column(to, Field.Woken, records, static (in e, in _) => ColumnWriter.Zigzag(WokenBase(e.Kind, e.Time) - e.Woken.Nanoseconds));
        Column(to, Field.Lane, records, static (in e, in _) => ColumnWriter.Zigzag(e.Lane));
        Column(to, Field.Request, records, static (in e, in _) => ColumnWriter.Zigzag(e.Request));
        Column(to, Field.Destination, records, static (in e, in _) => e.Destination.Value);
        Column(to, Field.Other, records, static (in e, in _) => ColumnWriter.Zigzag(e.Other));
    }

    public int Decode(ReadOnlySpan<byte> payload, int threads, long most, ref ServiceEvent[] records)
    {
        var table = new ColumnTable(payload);
        int count = Check.Count(table.Count((int)Field.Kind), columns: 12, payload.Length, most);
        if (records.Length < count)
            records = new ServiceEvent[count];
        var kinds = table.Reader((int)Field.Kind);
        var timeDelta = table.Reader((int)Field.Time);
        var space = table.Reader((int)Field.Space);
        var startDelta = table.Reader((int)Field.Start);
        var pages = table.Reader((int)Field.Count);
        var thread = table.Reader((int)Field.Thread);
        var how = table.Reader((int)Field.How);
        var woken = table.Reader((int)Field.Woken);
        var lane = table.Reader((int)Field.Lane);
        var request = table.Reader((int)Field.Request);
        var destination = table.Reader((int)Field.Destination);
        var other = table.Reader((int)Field.Other);
        long time = 0;
        long start = 0;
        for (int i = 0; i < count; i++)
        {
            var kind = (ServiceEventKind)Check.Below(kinds.Next(), (int)LastKind + 1, i, "kind of event");
            int bits = Check.Below(how.Next(), ((int)LastOutcome + 1) << 1, i, "access and outcome");
            time += timeDelta.NextSigned();
            start += startDelta.NextSigned();
            Instant at = Check.Time(time, i);
            PageNumber first = Check.Page(start, i);
            long length = Check.Page((long)pages.Next(), i) - default(PageNumber);
            records[i] = new ServiceEvent(kind, at, Check.Int(space.NextSigned(), i, "address space"), new PageRange(first, length))
            {
                Thread = ThreadIndex(thread.NextSigned(), kind, threads, i),
                Access = (Access)(bits & 1),
                Outcome = (InstallOutcome)(bits >> 1),
                Woken = Check.Time(WokenBase(kind, at) - woken.NextSigned(), i),
                Lane = Check.Int(lane.NextSigned(), i, "lane"),
                Request = Check.Int(request.NextSigned(), i, "request"),
                Destination = Check.Page((long)destination.Next(), i),
                Other = Check.Int(other.NextSigned(), i, "other address space"),
            };
        }
        if (!(kinds.AtEnd && timeDelta.AtEnd && space.AtEnd && startDelta.AtEnd && pages.AtEnd && thread.AtEnd && how.AtEnd
            && woken.AtEnd && lane.AtEnd && request.AtEnd && destination.AtEnd && other.AtEnd))
            throw new BadInputException($"columns of different length; expected {count} values in each");
        return count;
    }

    /// <inheritdoc cref="FaultCodec.ThrowIfUnfit"/>
    public static void ThrowIfUnfit(in ServiceEvent e, int threads)
    {
        bool fits = e.Kind <= LastKind && e.Outcome <= LastOutcome && e.Access <= Access.Write
            && Check.IsTime(e.Time) && Check.IsTime(e.Woken)
            && e.Range.Start.Value <= HeaderCodec.MaxPage && (ulong)e.Range.Count <= HeaderCodec.MaxPage
            && e.Destination.Value <= HeaderCodec.MaxPage
            && (e.Kind != ServiceEventKind.Fault || (uint)e.Thread < (uint)threads);
        if (!fits)
            throw new ArgumentException($"{e} cannot be recorded: {threads} threads are known, times are 0 to 2^62 ns");
    }

    /// <summary>Faults carry how long ago the daemon woke; for the other kinds, whose Woken is 0, that would be a big number.</summary>
    private static long WokenBase(ServiceEventKind kind, Instant time) => kind == ServiceEventKind.Fault ? time.Nanoseconds : 0;

    private static int ThreadIndex(long value, ServiceEventKind kind, int threads, int record) => kind == ServiceEventKind.Fault
        ? Check.Below((ulong)value, threads, record, "thread")
        : Check.Int(value, record, "thread");

    private delegate ulong Value(in ServiceEvent e, in ServiceEvent before);

    private static void Column(ColumnWriter to, Field field, ReadOnlySpan<ServiceEvent> records, Value value)
    {
        to.BeginColumn(records.Length);
        ServiceEvent before = default;
        foreach (ref readonly ServiceEvent e in records)
        {
            to.Add(value(e, before));
            before = e;
        }
        to.EndColumn((int)field);
    }
}
