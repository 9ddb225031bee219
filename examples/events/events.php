<?php
// Events that nobody misses, in PHP without any library: README.md beside this says what it does. PHP 8.1 or newer with
// pdo_sqlite.
//
//   php events.php billing ledger.sqlite [SECONDS]
//
// Reads for so many seconds and ends, as workers under cron or a supervisor should; without, for ever. It may be killed at
// any time, and replaced by another version of itself.

declare(strict_types=1);

const SILENCE = 30; // seconds; imserver says something every 10

/** Your database. What an event changes is written in the transaction that notes its id. */
class Ledger
{
    private PDO $db;

    public function __construct(string $path)
    {
        $this->db = new PDO("sqlite:$path");
        // Another worker may write at this moment.
        $this->db->exec('PRAGMA busy_timeout = 10000');
        $this->db->exec('CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, kind TEXT, client TEXT, reason TEXT)');
        $this->db->exec('CREATE TABLE IF NOT EXISTS missed (count INTEGER, online INTEGER)');
        $this->db->exec('CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY, id TEXT)');
    }

    /** Where the stream goes on. Without it what a former process has left comes after 30 s. */
    public function position(): ?string
    {
        return $this->db->query('SELECT id FROM position')->fetchColumn() ?: null;
    }

    /** What comes a second time has the same id, and changes nothing. */
    public function handle(string $kind, array $event, ?string $position): void
    {
        $this->db->beginTransaction();
        $is_new = $this->write('INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?)', [
            $event['id'], $kind, $event['client'] ?? '-', $event['reason'] ?? '-',
        ]);
        if ($is_new) {
            // Whatever else it changes: a bill, a last-seen list.
        }
        if ($position !== null) {
            $this->write('REPLACE INTO position VALUES (1, ?)', [$position]);
        }
        $this->db->commit();
    }

    /** Some were never told: what is true now replaces what they would have said. */
    public function missed(?int $count): void
    {
        $this->write('INSERT INTO missed VALUES (?, ?)', [$count, count(who_is_online())]);
    }

    private function write(string $sql, array $values): bool
    {
        $statement = $this->db->prepare($sql);
        $statement->execute($values);
        return $statement->rowCount() > 0;
    }
}

/** @return resource the answer */
function ask(string $path, ?array $body = null, array $headers = [])
{
    $headers = [
        'Authorization: Bearer ' . getenv('IMSERVER_API_KEY'),
        'Content-Type: application/json',
        'Connection: close',
        ...$headers,
    ];
    $context = stream_context_create(['http' => [
        'method' => $body === null ? 'GET' : 'POST',
        'header' => $headers,
        'content' => $body === null ? '' : json_encode($body),
        'protocol_version' => 1.1,
        'timeout' => SILENCE,
        'ignore_errors' => true,
    ]]);
    // The text of a failure names the address, never a header.
    $stream = @fopen((getenv('IMSERVER_API') ?: 'http://127.0.0.1:7001') . $path, 'r', false, $context);
    $status = $stream ? stream_get_meta_data($stream)['wrapper_data'][0] : (error_get_last()['message'] ?? 'no answer');
    if (!preg_match('/^HTTP\S+ 2/', $status)) {
        throw new RuntimeException(trim($status . ' ' . ($stream ? stream_get_contents($stream) : '')));
    }
    return $stream;
}

function who_is_online(): array
{
    $clients = [];
    for ($query = ''; $query !== null;) {
        $page = json_decode(stream_get_contents(ask("/v1/clients?limit=1000$query")), true, 8, JSON_THROW_ON_ERROR);
        array_push($clients, ...$page['clients']);
        $query = $page['next'] === null ? null : '&after=' . rawurlencode($page['next']);
    }
    return $clients;
}

/** The lines of a stream; null about every second in which there is none. */
function lines($stream): Generator
{
    stream_set_timeout($stream, 1);
    for ($line = '', $heard = microtime(true); microtime(true) < $heard + SILENCE;) {
        $piece = fgets($stream);
        if ($piece !== false) {
            $heard = microtime(true);
            $line .= $piece;
        } elseif (!stream_get_meta_data($stream)['timed_out']) {
            throw new RuntimeException('the stream has ended');
        }
        if (str_ends_with($line, "\n")) {
            yield rtrim($line, "\r\n");
            $line = '';
        } else {
            yield null;
        }
    }
    throw new RuntimeException('nothing was heard');
}

/** Goes on behind what was handled last, until something fails or the time is up. */
function read(string $group, Ledger $ledger, float $end, float &$pause): void
{
    $last = $ledger->position();
    $stream = ask('/v1/events?group=' . rawurlencode($group), null, $last ? ["Last-Event-ID: $last"] : []);
    $fields = [];
    foreach (lines($stream) as $line) {
        if (microtime(true) >= $end) {
            return;
        }
        [$name, $value] = explode(': ', $line ?? '', 2) + [1 => ''];
        if ($name !== '') {
            $fields[$name] = $value;
        } elseif ($line === '' && isset($fields['data'])) {
            $data = json_decode($fields['data'], true, 8, JSON_THROW_ON_ERROR);
            if ($fields['event'] === 'missed') {
                $ledger->missed($data['missed']);
                $done = ['missed' => $data['missed'] ?? 0];
            } else {
                $ledger->handle($fields['event'], $data, $fields['id'] ?? null);
                $done = ['ids' => [$data['id']]];
            }
            fclose(ask('/v1/events/acknowledgements', ['group' => $group, ...$done]));
            [$fields, $pause] = [[], 0.5];
        }
    }
}

[, $group, $path] = $argv;
$end = isset($argv[3]) ? microtime(true) + (float) $argv[3] : INF;
$ledger = new Ledger($path);
for ($pause = 0.5; microtime(true) < $end; $pause = min($pause * 2, 30)) {
    try {
        read($group, $ledger, $end, $pause);
    } catch (RuntimeException | JsonException $error) {
        fwrite(STDERR, "once more: {$error->getMessage()}\n");
        usleep((int) ($pause * random_int(500_000, 1_000_000)));
    }
}
