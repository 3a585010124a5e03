using System.Numerics;

namespace Testbed.Uffd;

/// <summary>A bounded queue between one thread that writes and one that reads, without locks or allocation.</summary>
internal sealed class SpscRing<T>(int capacity)
    where T : struct
{
    private readonly T[] _items = new T[BitOperations.RoundUpToPowerOf2((uint)capacity)];

    // Each is written by one side only.
    private int _head;
    private int _tail;

    /// <summary>Whether there is nothing to read.</summary>
    public bool IsEmpty => Volatile.Read(ref _head) == Volatile.Read(ref _tail);

    /// <summary>The writer's side. False when it is full.</summary>
    public bool TryWrite(in T item)
    {
        int tail = _tail;
        if (tail - Volatile.Read(ref _head) == _items.Length)
            return false;
        _items[tail & (_items.Length - 1)] = item;
        Volatile.Write(ref _tail, tail + 1);
        return true;
    }

    /// <summary>The reader's side. False when it is empty.</summary>
    public bool TryRead(out T item)
    {
        int head = _head;
        if (head == Volatile.Read(ref _tail))
        {
            item = default;
            return false;
        }
        item = _items[head & (_items.Length - 1)];
        Volatile.Write(ref _head, head + 1);
        return true;
    }
}
