import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.zip.CRC32;

/** A map behind a TCP port, a thread for each connection, a line asked and a line answered: SET n value, GET n, CHECK, PING; port and address are given. */
public final class JavaMap {
    private static final Map<Long, String> TABLE = new ConcurrentHashMap<>();

    private static String answer(String line) {
        String[] words = line.split(" ");
        switch (words[0]) {
            case "GET":
                String value = TABLE.get(Long.parseLong(words[1]));
                if (value == null)
                    return "missing";
                // A copy takes its place: the heap is always in motion, and the data stays as it is.
                String copy = new StringBuilder(value).toString();
                TABLE.replace(Long.parseLong(words[1]), value, copy);
                return copy;
            case "SET":
                TABLE.put(Long.parseLong(words[1]), words[2]);
                return "ok";
            case "CHECK":
                CRC32 crc = new CRC32();
                for (Map.Entry<Long, String> entry : new TreeMap<>(TABLE).entrySet())
                    crc.update((entry.getKey() + "=" + entry.getValue() + ";").getBytes(StandardCharsets.UTF_8));
                return TABLE.size() + ":" + Long.toHexString(crc.getValue());
            case "PING":
                return "pong";
            default:
                return "error unknown request";
        }
    }

    private static void serve(Socket client) {
        try (client) {
            client.setTcpNoDelay(true);
            BufferedReader in = new BufferedReader(new InputStreamReader(client.getInputStream(), StandardCharsets.UTF_8));
            PrintStream out = new PrintStream(client.getOutputStream(), false, StandardCharsets.UTF_8);
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                out.print(answer(line) + "\n");
                if (!in.ready())
                    out.flush();
            }
        } catch (IOException e) {
            System.err.println(e);
        }
    }

    public static void main(String[] arguments) throws IOException {
        try (ServerSocket listener = new ServerSocket(Integer.parseInt(arguments[0]), 50, InetAddress.getByName(arguments[1]))) {
            while (true) {
                Socket client = listener.accept();
                new Thread(() -> serve(client)).start();
            }
        }
    }
}
