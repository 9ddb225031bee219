// What of JSON a client needs: the members of an object as they stand in the text, and texts. Whatever is in a message is nobody's
// business here: it is looked over, never read, and never by recursion, so that no depth of it does harm.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Imcore
{
    internal static class Json
    {
        /// <summary>The members of an object, each as it stands there; of two of a name the last. Throws a FormatException.</summary>
        internal static Dictionary<string, string> Members(string text)
        {
            var members = new Dictionary<string, string>();
            int at = Blank(text, 0);
            Expect(text, at, '{');
            at = Blank(text, at + 1);
            while (At(text, at) != '}')
            {
                int name = at;
                at = Scalar(text, at);
                string key = Text(text.Substring(name, at - name));
                at = Blank(text, at);
                Expect(text, at, ':');
                int start = Blank(text, at + 1);
                at = Value(text, start);
                members[key] = text.Substring(start, at - start);
                at = Blank(text, at);
                if (At(text, at) == '}') break;
                Expect(text, at, ',');
                at = Blank(text, at + 1);
                Expect(text, at, '"');
            }
            if (Blank(text, at + 1) != text.Length) throw Wrong(at + 1);
            return members;
        }

        internal static bool IsJson(string text)
        {
            try
            {
                return Blank(text, Value(text, Blank(text, 0))) == text.Length;
            }
            catch (FormatException)
            {
                return false;
            }
        }

        /// <summary>The text that a member is; null if it is none, or not there.</summary>
        internal static string TextOf(Dictionary<string, string> members, string name)
        {
            return members.TryGetValue(name, out string value) && value[0] == '"' ? Text(value) : null;
        }

        /// <summary>The number that a member is; 0 if it is none, or not there.</summary>
        internal static double NumberOf(Dictionary<string, string> members, string name)
        {
            return members.TryGetValue(name, out string value)
                && double.TryParse(value, NumberStyles.Float, CultureInfo.InvariantCulture, out double number) ? number : 0;
        }

        internal static bool IsTrue(Dictionary<string, string> members, string name)
        {
            return members.TryGetValue(name, out string value) && value == "true";
        }

        /// <summary>What a text in quotes says.</summary>
        internal static string Text(string quoted)
        {
            if (quoted.Length < 2 || quoted[0] != '"') throw Wrong(0);
            if (quoted.IndexOf('\\') < 0) return quoted.Substring(1, quoted.Length - 2);
            var text = new StringBuilder();
            for (int at = 1; at < quoted.Length - 1; at += 1)
            {
                if (quoted[at] != '\\')
                {
                    text.Append(quoted[at]);
                    continue;
                }
                at += 1;
                int known = "\"\\/bfnrt".IndexOf(quoted[at]);
                if (known >= 0) text.Append("\"\\/\b\f\n\r\t"[known]);
                else
                {
                    text.Append((char)int.Parse(quoted.Substring(at + 1, 4), NumberStyles.HexNumber, CultureInfo.InvariantCulture));
                    at += 4;
                }
            }
            return text.ToString();
        }

        internal static string Quote(string text)
        {
            var quoted = new StringBuilder("\"");
            foreach (char one in text)
            {
                if (one == '"' || one == '\\') quoted.Append('\\').Append(one);
                else if (one < ' ') quoted.Append("\\u").Append(((int)one).ToString("x4", CultureInfo.InvariantCulture));
                else quoted.Append(one);
            }
            return quoted.Append('"').ToString();
        }

        /// <summary>Where the value that begins at a place ends.</summary>
        private static int Value(string text, int at)
        {
            var open = new Stack<char>();
            for (;;)
            {
                char first = At(text, at);
                if (first == '{' || first == '[')
                {
                    open.Push(first == '{' ? '}' : ']');
                    at = Blank(text, at + 1);
                    if (At(text, at) != open.Peek())
                    {
                        if (first == '{') at = Name(text, at);
                        continue;
                    }
                }
                else at = Scalar(text, at);
                for (;;)
                {
                    if (open.Count == 0) return at;
                    at = Blank(text, at);
                    if (At(text, at) == open.Peek())
                    {
                        open.Pop();
                        at += 1;
                        continue;
                    }
                    Expect(text, at, ',');
                    at = Blank(text, at + 1);
                    if (open.Peek() == '}') at = Name(text, at);
                    break;
                }
            }
        }

        private static int Name(string text, int at)
        {
            Expect(text, at, '"');
            at = Blank(text, Scalar(text, at));
            Expect(text, at, ':');
            return Blank(text, at + 1);
        }

        private static int Scalar(string text, int at)
        {
            if (At(text, at) == '"') return Quoted(text, at + 1);
            foreach (string word in new[] { "true", "false", "null" })
            {
                if (string.CompareOrdinal(text, at, word, 0, word.Length) == 0) return at + word.Length;
            }
            return Number(text, at);
        }

        private static int Quoted(string text, int at)
        {
            for (; At(text, at) != '"'; at += 1)
            {
                if (text[at] < ' ') throw Wrong(at);
                if (text[at] != '\\') continue;
                at += 1;
                if (At(text, at) == 'u')
                {
                    for (int digit = 1; digit <= 4; digit += 1)
                    {
                        if (!Uri.IsHexDigit(At(text, at + digit))) throw Wrong(at + digit);
                    }
                    at += 4;
                }
                else if ("\"\\/bfnrt".IndexOf(text[at]) < 0) throw Wrong(at);
            }
            return at + 1;
        }

        private static int Number(string text, int at)
        {
            if (At(text, at) == '-') at += 1;
            int end = At(text, at) == '0' ? at + 1 : Digits(text, at);
            if (end < text.Length && text[end] == '.') end = Digits(text, end + 1);
            if (end < text.Length && (text[end] == 'e' || text[end] == 'E'))
            {
                end += 1;
                if (At(text, end) == '+' || text[end] == '-') end += 1;
                end = Digits(text, end);
            }
            return end;
        }

        private static int Digits(string text, int at)
        {
            int end = at;
            while (end < text.Length && text[end] >= '0' && text[end] <= '9') end += 1;
            if (end == at) throw Wrong(at);
            return end;
        }

        private static int Blank(string text, int at)
        {
            while (at < text.Length && " \t\r\n".IndexOf(text[at]) >= 0) at += 1;
            return at;
        }

        private static char At(string text, int at)
        {
            if (at >= text.Length) throw Wrong(at);
            return text[at];
        }

        private static void Expect(string text, int at, char wanted)
        {
            if (At(text, at) != wanted) throw Wrong(at);
        }

        private static FormatException Wrong(int at)
        {
            return new FormatException("no JSON at character " + at.ToString(CultureInfo.InvariantCulture));
        }
    }
}
