using System.Buffers.Text;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
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
    private enum Part { Literal, Key, Number, Value, Size, Cursor }

    private const string KeyPrefix = "key:";
    private const int KeyDigits = 12;

    private readonly List<(Part Kind, byte[] Literal)> _parts = [];
    private readonly int _valueSize;
    private readonly ulong _seed;

    private RequestTemplate(int valueSize, ulong seed) => (_valueSize, _seed) = (valueSize, seed);

    /// <summary>Whether it differs from key to key.</summary>
    public bool IsPerKey => _parts.Any(p => p.Kind is Part.Key or Part.Number or Part.Value);

    /// <summary>Whether each depends on the answer before.</summary>
    public bool HasCursor => _parts.Any(p => p.Kind == Part.Cursor);

    /// <param name="text">As the workload file has it.</param>
    /// <param name="workload">Gives the number of keys and the size of values.</param>
    /// <param name="seed">Of the values, and for {seed}.</param>
    public static RequestTemplate Parse(string text, WorkloadFile workload, ulong seed = 1)
    {
        if (text.Length == 0)
            throw new BadInputException("empty; expected a request");
        if (workload.Protocol == Protocol.Output)
            return Pattern(text, workload, seed);
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
                "cursor" => Part.Cursor,
                "keys" or "seed" => Part.Literal,
                _ => throw new BadInputException($"unknown placeholder \"{{{name}}}\"; expected {{key}}, {{n}}, {{value}}, {{size}}, {{keys}}, {{seed}} or {{cursor}}"),
            }, name switch
            {
                "keys" => Digits((ulong)workload.Keys),
                "seed" => Digits(seed),
                _ => [],
            }));
            at = close + 1;
        }
        return template;
    }

    /// <param name="key">The number of the key.</param>
    /// <param name="into">Where the request goes.</param>
    /// <param name="cursor">The first word of the answer before; empty: 0.</param>
    public void Render(long key, ByteBuffer into, ReadOnlySpan<byte> cursor = default)
    {
        foreach ((Part kind, byte[] literal) in _parts)
        {
            switch (kind)
            {
                case Part.Literal: into.Add(literal); break;
                case Part.Key: AddKey(key, into); break;
                case Part.Number: into.AddNumber(key); break;
                case Part.Size: into.AddNumber(_valueSize); break;
                case Part.Cursor: into.Add(cursor.IsEmpty ? "0"u8 : cursor); break;
                default: AddValue(key, into); break;
            }
        }
    }

    /// <summary>A regular expression has braces of its own.</summary>
    private static RequestTemplate Pattern(string text, WorkloadFile workload, ulong seed)
    {
        try
        {
            _ = new Regex(text);
        }
        catch (ArgumentException e)
        {
            throw new BadInputException($"\"{text}\": {e.Message}; expected a regular expression", e);
        }
        var template = new RequestTemplate((int)workload.ValueSize.Bytes, seed);
        template._parts.Add((Part.Literal, Encoding.UTF8.GetBytes(text)));
        return template;
    }

    private static byte[] Digits(ulong number) => Encoding.ASCII.GetBytes(number.ToString(CultureInfo.InvariantCulture));

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
        // Mixed, or the values of two keys would be parts of one sequence, shifted.
        var random = new KeyRandom(KeyRandom.Mix(_seed ^ ((ulong)key * 0x9E3779B97F4A7C15)));
        ulong bits = 0;
        for (int i = 0; i < value.Length; i++, bits >>= 6)
        {
            if (i % 10 == 0)
                bits = random.Next();
            value[i] = (byte)('0' + (bits & 63));
        }
    }
}
