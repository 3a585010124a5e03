using System.Buffers.Text;
using System.Text;
using Testbed.Core;

namespace Testbed.Scenarios;

/// <summary>A growing run of bytes that is filled and used again.</summary>
internal sealed class ByteBuffer
{
    private byte[] _bytes = new byte[4096];

    public int Length { get; private set; }

    public ReadOnlySpan<byte> Written => _bytes.AsSpan(0, Length);

    public void Clear() => Length = 0;

    public Span<byte> Reserve(int count)
    {
        if (Length + count > _bytes.Length)
            Array.Resize(ref _bytes, Math.Max(_bytes.Length * 2, Length + count));
        Span<byte> span = _bytes.AsSpan(Length, count);
        Length += count;
        return span;
    }

    public void Add(ReadOnlySpan<byte> bytes) => bytes.CopyTo(Reserve(bytes.Length));

    public void AddNumber(long value)
    {
        Span<byte> digits = stackalloc byte[20];
        Utf8Formatter.TryFormat(value, digits, out int count);
        Add(digits[..count]);
    }
}

/// <summary>A request with holes for key and value. Same key, seed and size: same bytes, on any machine.</summary>
internal sealed class RequestTemplate
{
    private enum Part { Literal, Key, Number, Value, Size }

    private const string KeyPrefix = "key:";
    private const int KeyDigits = 12;

    private readonly List<(Part Kind, byte[] Literal)> _parts = [];
    private readonly int _valueSize;
    private readonly ulong _seed;

    private RequestTemplate(int valueSize, ulong seed) => (_valueSize, _seed) = (valueSize, seed);

    /// <summary>Whether it differs from key to key.</summary>
    public bool IsPerKey => _parts.Any(p => p.Kind is Part.Key or Part.Number or Part.Value);

    public static RequestTemplate Parse(string text, WorkloadFile workload, ulong seed = 1)
    {
        if (text.Length == 0)
            throw new BadInputException("empty; expected a request");
        var template = new RequestTemplate((int)workload.ValueSize.Bytes, seed);
        int at = 0;
        while (at < text.Length)
        {
            int open = text.IndexOf('{', at);
            int literalEnd = open < 0 ? text.Length : open;
            if (literalEnd > at)
                template._parts.Add((Part.Literal, Encoding.UTF8.GetBytes(text[at..literalEnd])));
            if (open < 0)
                break;
            int close = text.IndexOf('}', open);
            string name = close < 0 ? text[open..] : text[(open + 1)..close];
            template._parts.Add((name switch
            {
                "key" => Part.Key,
                "n" => Part.Number,
                "value" => Part.Value,
                "size" => Part.Size,
                _ => throw new BadInputException($"unknown placeholder \"{{{name}}}\"; expected {{key}}, {{n}}, {{value}} or {{size}}"),
            }, []));
            at = close + 1;
        }
        return template;
    }

    public void Render(long key, ByteBuffer into)
    {
        foreach ((Part kind, byte[] literal) in _parts)
        {
            switch (kind)
            {
                case Part.Literal: into.Add(literal); break;
                case Part.Key: AddKey(key, into); break;
                case Part.Number: into.AddNumber(key); break;
                case Part.Size: into.AddNumber(_valueSize); break;
                default: AddValue(key, into); break;
            }
        }
    }

    private static void AddKey(long key, ByteBuffer into)
    {
        Span<byte> name = into.Reserve(KeyPrefix.Length + KeyDigits);
        Encoding.ASCII.GetBytes(KeyPrefix, name);
        for (int i = name.Length - 1; i >= KeyPrefix.Length; i--, key /= 10)
            name[i] = (byte)('0' + key % 10);
    }

    /// <summary>Printable and without pattern, so that compression and same-page merging gain nothing by accident.</summary>
    private void AddValue(long key, ByteBuffer into)
    {
        Span<byte> value = into.Reserve(_valueSize);
        var random = new KeyRandom(_seed ^ ((ulong)key * 0x9E3779B97F4A7C15));
        ulong bits = 0;
        for (int i = 0; i < value.Length; i++, bits >>= 6)
        {
            if (i % 10 == 0)
                bits = random.Next();
            value[i] = (byte)('0' + (bits & 63));
        }
    }
}
