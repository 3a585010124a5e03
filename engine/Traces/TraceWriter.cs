using System.Diagnostics;
using Testbed.Core;

namespace Testbed.Traces;

/// <summary>
/// Writes a trace while it happens. Appending copies the record and returns; a thread of the writer packs and writes
/// blocks of <see cref="BlockRecords"/> records, or what there is once a second, so that a crash loses at most the last second.
/// May be called from several threads. Nothing is allocated per record.
/// </summary>
/// <remarks>
/// An error while writing (a full disk) must not stop a run that holds somebody's memory: appending goes on without
/// effect, and <see cref="Finish"/> reports it.
/// </remarks>
public sealed class TraceWriter : IDisposable
{
    /// <summary>Records in a full block.</summary>
    public const int BlockRecords = 16384;

    private static readonly TimeSpan SealInterval = TimeSpan.FromSeconds(1);

    private readonly TimeSpan _sealInterval;
    private readonly object _gate = new();
    private readonly string _name;
    private readonly BlockSink _sink;
    private readonly Thread _thread;
    private readonly RecordBuffer<FaultRecord> _faults = new(BlockRecords);
    private readonly RecordBuffer<ServiceEvent> _events = new(BlockRecords);
    private readonly FaultCodec _faultCodec = new();
    private readonly EventCodec _eventCodec = new();
    private readonly ColumnWriter _columns = new();
    private readonly List<TraceThread> _newThreads = [];
    private readonly List<TraceThread> _takenThreads = [];
    private readonly List<(int Index, Func<int, string> NameOf)> _unnamed = [];
    private readonly List<(int Index, Func<int, string> NameOf)> _takenUnnamed = [];
    private int _threadCount;
    private bool _writing;
    private bool _closing;
    private bool _closed;
    private Exception? _failure;

    private TraceWriter(Stream stream, string name, int threads, byte[] header, TimeSpan sealInterval)
    {
        _sealInterval = sealInterval;
        _name = name;
        _sink = new BlockSink(stream);
        _threadCount = threads;
        _sink.WritePrefix();
        _sink.Write(BlockKind.Header, header);
        _thread = new Thread(WriteBlocks) { IsBackground = true, Name = "trace writer" };
        _thread.Start();
    }

    /// <summary>Begins the file <paramref name="path"/>, replacing what is there, and writes the header.</summary>
    /// <exception cref="BadInputException">The file cannot be created.</exception>
    public static TraceWriter Create(string path, TraceHeader header)
    {
        byte[] encoded = Encode(header);
        FileStream? file = null;
        try
        {
            // Without a buffer: blocks are written whole, and a crash must not lose what was already handed over.
            file = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.Read, bufferSize: 0);
            return new TraceWriter(file, path, header.Threads.Count, encoded, SealInterval);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            file?.Dispose();
            throw new BadInputException($"{path}: cannot write a trace here: {e.Message}", e);
        }
    }

    /// <summary>Writes to <paramref name="stream"/>, which is closed at the end.</summary>
    public static TraceWriter Create(Stream stream, TraceHeader header) => Create(stream, header, SealInterval);

    /// <summary>For tests that count blocks.</summary>
    internal static TraceWriter Create(Stream stream, TraceHeader header, TimeSpan sealInterval) =>
        new(stream, "trace", header.Threads.Count, Encode(header), sealInterval);

    /// <summary>Faults appended so far.</summary>
    public long Faults { get; private set; }

    /// <summary>Events appended so far.</summary>
    public long Events { get; private set; }

    /// <summary>Bytes in the file so far.</summary>
    public long Bytes => _sink.Bytes;

    /// <summary>Adds a thread to the table and gives its index, for use in records appended later.</summary>
    public int AddThread(int tid, string name)
    {
        lock (_gate)
        {
            _newThreads.Add(new TraceThread(_threadCount, tid, name));
            return _threadCount++;
        }
    }

    /// <summary>
    /// Adds a thread whose name takes time to find out, and gives its index. The writer's own thread asks for the name, at once.
    /// </summary>
    /// <param name="tid">The kernel's id of the thread.</param>
    /// <param name="nameOf">Gives the name of a thread id, or an empty one. Called once, on another thread; must not throw.</param>
    public int AddThread(int tid, Func<int, string> nameOf)
    {
        lock (_gate)
        {
            _unnamed.Add((_threadCount, nameOf));
            _newThreads.Add(new TraceThread(_threadCount, tid, ""));
            Monitor.PulseAll(_gate);
            return _threadCount++;
        }
    }

    /// <summary>Appends a fault.</summary>
    /// <exception cref="ArgumentException">A thread that is not in the table, or a time below 0 or above 2^62 ns.</exception>
    public void Append(in FaultRecord fault)
    {
        lock (_gate)
        {
            FaultCodec.ThrowIfUnfit(fault, _threadCount);
            if (Put(_faults, fault))
                Faults++;
        }
    }

    /// <summary>Appends an event of the fault service.</summary>
    /// <exception cref="ArgumentException">A thread that is not in the table, or a time below 0 or above 2^62 ns.</exception>
    public void Append(in ServiceEvent serviceEvent)
    {
        lock (_gate)
        {
            EventCodec.ThrowIfUnfit(serviceEvent, _threadCount);
            if (Put(_events, serviceEvent))
                Events++;
        }
    }

    /// <summary>Waits until everything appended so far is in the file.</summary>
    public void Flush()
    {
        lock (_gate)
        {
            SealAll();
            while (_failure == null && (_faults.HasFull || _events.HasFull || _newThreads.Count > 0 || _writing))
                Monitor.Wait(_gate);
        }
    }

    /// <summary>Writes what is left and the footer, and closes the file: the trace is complete.</summary>
    /// <exception cref="BadInputException">Something could not be written, now or before; the file is readable up to there.</exception>
    public void Finish(TraceEnd end)
    {
        ObjectDisposedException.ThrowIf(_closed, this);
        try
        {
            StopThread();
            if (_failure == null)
            {
                _sink.Write(BlockKind.Footer, HeaderCodec.Encode(end, new TraceTotals(Faults, Events, _threadCount, _sink.Blocks)));
                _sink.FlushToDisk();
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            _failure = e;
        }
        finally
        {
            Close();
        }
        if (_failure != null)
            throw new BadInputException($"{_name}: the trace ends early: {_failure.Message}", _failure);
    }

    /// <summary>Writes what is left and closes the file. Without <see cref="Finish"/> before, the trace is not complete.</summary>
    public void Dispose()
    {
        if (_closed)
            return;
        StopThread();
        Close();
    }

    /// <summary>Done before a file is made, so that a header that does not fit leaves none behind.</summary>
    private static byte[] Encode(TraceHeader header)
    {
        for (int i = 0; i < header.Threads.Count; i++)
        {
            if (header.Threads[i].Index != i)
                throw new ArgumentException($"thread {i} of the header has index {header.Threads[i].Index}", nameof(header));
        }
        byte[] bytes = HeaderCodec.Encode(header);
        BlockSink.CheckLength(BlockKind.Header, bytes.Length);
        return bytes;
    }

    private bool Put<T>(RecordBuffer<T> buffer, in T record) where T : struct
    {
        ObjectDisposedException.ThrowIf(_closing, this);
        while (!buffer.TryReserve())
        {
            if (_failure != null)
                return false;
            Monitor.Wait(_gate);
        }
        if (_failure != null)
            return false;
        if (buffer.Add(record))
            Monitor.PulseAll(_gate);
        return true;
    }

    private void SealAll()
    {
        _faults.Seal();
        _events.Seal();
        Monitor.PulseAll(_gate);
    }

    private void StopThread()
    {
        lock (_gate)
        {
            _closing = true;
            SealAll();
        }
        _thread.Join();
    }

    private void Close()
    {
        _closed = true;
        _sink.Dispose();
    }

    private void WriteBlocks()
    {
        long sealedAt = Stopwatch.GetTimestamp();
        while (WaitForWork(ref sealedAt))
        {
            try
            {
                WriteThreads();
                WriteOne(_faults, _faultCodec);
                WriteOne(_events, _eventCodec);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or BadInputException)
            {
                lock (_gate)
                {
                    _failure = e;
                    Monitor.PulseAll(_gate);
                }
                return;
            }
        }
    }

    /// <summary>False when everything is written and nothing more will come.</summary>
    private bool WaitForWork(ref long sealedAt)
    {
        lock (_gate)
        {
            _writing = false;
            Monitor.PulseAll(_gate);
            while (!_faults.HasFull && !_events.HasFull && _newThreads.Count == 0)
            {
                if (_closing)
                    return false;
                Monitor.Wait(_gate, _sealInterval);
                if (Stopwatch.GetElapsedTime(sealedAt) >= _sealInterval)
                {
                    SealAll();
                    sealedAt = Stopwatch.GetTimestamp();
                }
            }
            _writing = true;
            return true;
        }
    }

    private void WriteThreads()
    {
        lock (_gate)
            TakeThreads();
        WriteTakenThreads();
    }

    private void WriteOne<T>(RecordBuffer<T> buffer, IBlockCodec<T> codec) where T : struct
    {
        T[] records;
        int count;
        lock (_gate)
        {
            if (!buffer.HasFull)
                return;
            // Under one lock: a thread that was added and used since the last look must come before the records that name it.
            TakeThreads();
            (records, count) = buffer.TakeFull();
        }
        WriteTakenThreads();
        codec.Encode(records.AsSpan(0, count), _columns);
        _sink.Write(codec.Kind, _columns.Payload);
        lock (_gate)
        {
            buffer.Return(records);
            Monitor.PulseAll(_gate);
        }
    }

    private void TakeThreads()
    {
        _takenThreads.AddRange(_newThreads);
        _newThreads.Clear();
        _takenUnnamed.AddRange(_unnamed);
        _unnamed.Clear();
    }

    private void WriteTakenThreads()
    {
        if (_takenThreads.Count == 0)
            return;
        foreach ((int index, Func<int, string> nameOf) in _takenUnnamed)
        {
            int place = index - _takenThreads[0].Index;
            _takenThreads[place] = _takenThreads[place] with { Name = nameOf(_takenThreads[place].Tid) };
        }
        _takenUnnamed.Clear();
        _sink.Write(BlockKind.Threads, HeaderCodec.Encode(_takenThreads));
        _takenThreads.Clear();
    }
}
